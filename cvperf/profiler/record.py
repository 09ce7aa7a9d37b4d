"""Running something under torch.profiler, with a range around every layer."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.autograd.profiler import record_function
from torch.profiler import ProfilerActivity

from cvperf.profiler import trace
from cvperf.profiler.layers import Layers, ranges


@dataclass
class Recording:
    """One profiled pass; filled when its block ends."""

    one: trace.Pass = field(default_factory=lambda: trace.Pass([]))
    chrome_trace: bytes = b""
    """The trace as torch.profiler wrote it: JSON."""


@contextmanager
def recorded(layers: Layers) -> Iterator[Recording]:
    """Profile what the block does: ops with their arguments, layers, memory, and GPU kernels."""
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    recording = Recording()
    with (
        torch.profiler.profile(
            activities=activities, record_shapes=True, profile_memory=True, acc_events=True
        ) as profiler,
        ranges(layers),
        record_function(trace.PASS),
    ):
        try:
            yield recording
        finally:
            synchronize()
    recording.chrome_trace = _exported(profiler)
    recording.one = trace.parse(json.loads(recording.chrome_trace)["traceEvents"])


def unprofiled_us(run: Callable[[], Any]) -> float:
    """Microseconds of one call of ``run``, with nothing watching."""
    synchronize()
    start = time.perf_counter()
    run()
    synchronize()
    return (time.perf_counter() - start) * 1e6


def synchronize() -> None:
    """Wait for the GPU, if this process has used one."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _exported(profiler: torch.profiler.profile) -> bytes:
    handle, name = tempfile.mkstemp(suffix=".json", prefix="cvperf-trace-")
    os.close(handle)
    path = Path(name)
    try:
        profiler.export_chrome_trace(name)
        return path.read_bytes()
    finally:
        path.unlink()
