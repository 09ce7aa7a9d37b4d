"""Choices made by measurement: once for each kind of call, and kept in a file.

Off by default, since which algorithm wins decides the last bits of an answer and a measurement is
not the same twice; the recorded rules decide then. ``CVPERF_AUTOTUNE=1`` turns it on, and
``CVPERF_AUTOTUNE=full`` also measures what a model of the GPU finds unlikely. What was measured is
kept in ``autotune.json`` in the cache folder (``CVPERF_CACHE`` names another), by processor,
instruction set, threads and versions, so a choice holds from run to run.
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from cvperf import _C, files
from cvperf.backends.processor import cpu_name

_ROUNDS = 7
_SAMPLE_S = 2e-4
"""Calls shorter than this are repeated within a sample."""
_BUDGET_S = 0.25
"""After this long, the rounds that are done decide."""

_lock = threading.Lock()
_known: dict[str, dict[str, Choice]] = {}


@dataclass(frozen=True)
class Choice:
    """The fastest of the candidates of one kind of call.

    Attributes:
        name: the candidate that won.
        ms: candidate -> median milliseconds of a call.
    """

    name: str
    ms: Mapping[str, float]

    def __str__(self) -> str:
        times = ", ".join(f"{name} {ms:.3g} ms" for name, ms in self.ms.items())
        return f"measured once: {times}"


def enabled() -> bool:
    """Whether ``CVPERF_AUTOTUNE`` asks for it: 1 or full for yes, 0 or nothing for no.

    Raises:
        ValueError: it says something else.
    """
    value = os.environ.get("CVPERF_AUTOTUNE", "0")
    if value not in ("0", "1", "full", ""):
        raise ValueError(f"CVPERF_AUTOTUNE must be 0, 1 or full, got {value!r}")
    return value in ("1", "full")


def thorough() -> bool:
    """Whether every candidate is to be measured, and not only the likely ones."""
    return os.environ.get("CVPERF_AUTOTUNE") == "full"


def cache_file() -> Path:
    """Where choices are kept."""
    return files.cache_folder() / "autotune.json"


def choose(
    call: str,
    candidates: Mapping[str, Callable[[], Any]],
    *,
    on: str | None = None,
    seconds: Callable[[Callable[[], Any], int], float] | None = None,
) -> Choice:
    """The fastest candidate for this kind of call: measured now, or remembered.

    Args:
        call: names the kind of call: op, shapes, dtype, layout.
        candidates: name -> what runs it. All must be free of side effects.
        on: what the measurement holds for; None for this processor as it is set up now.
        seconds: measures one of several runs; None for the wall clock.
    """
    machine = on or _machine()
    with _lock:
        known = _known.get(machine)
        if known is None:
            known = _known[machine] = _read(machine)
        choice = known.get(call)
        if choice is None or choice.ms.keys() != candidates.keys():
            choice = known[call] = _measure(candidates, seconds or _seconds)
            _keep(machine, call, choice)
        return choice


def count() -> int:
    """How many choices the file holds, of all machines."""
    return sum(len(calls) for calls in _stored().values())


def forget() -> None:
    """Forget what this process remembers; the file stays."""
    with _lock:
        _known.clear()


def _measure(
    candidates: Mapping[str, Callable[[], Any]], seconds: Callable[[Callable[[], Any], int], float]
) -> Choice:
    repeats = {name: max(1, int(_SAMPLE_S / seconds(run, 1))) for name, run in candidates.items()}
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    start = time.perf_counter()
    for done in range(_ROUNDS):
        for name, run in candidates.items():
            samples[name].append(seconds(run, repeats[name]))
        if done and time.perf_counter() - start > _BUDGET_S * len(candidates):
            break
    ms = {name: 1e3 * statistics.median(times) for name, times in samples.items()}
    return Choice(min(ms, key=ms.__getitem__), ms)


def _seconds(run: Callable[[], Any], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times


def _machine() -> str:
    """What a measurement holds for."""
    return f"{_installation()}, {_C.isa()}, {torch.get_num_threads()} threads"


@functools.cache
def _installation() -> str:
    return f"{cpu_name()}, torch {torch.__version__}, cvperf {version('cvperf')}"


def _stored() -> dict[str, dict[str, dict[str, Any]]]:
    """The whole file by machine; empty if there is none, or none that this version wrote."""
    try:
        stored = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(stored, dict):
        return {}
    return {machine: calls for machine, calls in stored.items() if isinstance(calls, dict)}


def _read(machine: str) -> dict[str, Choice]:
    """A machine's choices; an entry that is not one is measured again."""
    choices = {}
    for call, entry in _stored().get(machine, {}).items():
        match entry:
            case {"name": str(name), "ms": dict(ms)} if name in ms:
                choices[call] = Choice(name, ms)
    return choices


def _keep(machine: str, call: str, choice: Choice) -> None:
    """Add to what the file holds by now: another process may have written since."""
    stored = _stored()
    stored.setdefault(machine, {})[call] = asdict(choice)
    cache_file().parent.mkdir(parents=True, exist_ok=True)
    files.replace(cache_file(), json.dumps(stored, indent=1))
