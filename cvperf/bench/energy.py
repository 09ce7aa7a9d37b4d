"""Joules of a call, where the machine counts them: RAPL on the CPU, NVML on the GPU."""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LEAST_SECONDS = 0.2  # the counters move about every millisecond (RAPL) or every 20 (NVML)

Counter = Callable[[], float]
"""Joules since some moment."""


@functools.cache
def counter(device: str) -> Counter | None:
    """The machine's energy counter, or None if it offers none that this user may read."""
    return _nvml() if device == "cuda" else _rapl()


def of_call(run: Callable[[], Any], joules: Counter, wait: Callable[[], None]) -> float | None:
    """Joules of one call of ``run``, over as many calls as the counter needs to see it.

    It is the energy of the whole package or card, whatever else runs on it; None if the counter
    began anew meanwhile, as RAPL's do every few minutes.

    Args:
        wait: returns when the work that was started is done.
    """
    calls, start, begin = 0, time.perf_counter(), joules()
    while time.perf_counter() - start < _LEAST_SECONDS:
        run()
        wait()
        calls += 1
    used = joules() - begin
    return used / calls if used >= 0 else None


def _rapl() -> Counter | None:
    files = sorted(Path("/sys/class/powercap").glob("intel-rapl:[0-9]/energy_uj"))
    try:
        for file in files:
            file.read_text()
    except OSError:  # kernels since 5.10 let only root read it
        return None
    if not files:
        return None
    return lambda: sum(int(file.read_text()) for file in files) / 1e6


def _nvml() -> Counter | None:
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    nvml.nvmlInit()
    card = nvml.nvmlDeviceGetHandleByIndex(0)
    try:
        nvml.nvmlDeviceGetTotalEnergyConsumption(card)
    except nvml.NVMLError:
        return None
    return lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1e3
