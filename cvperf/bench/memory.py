"""How much memory one call takes at its highest."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def peak_of(run: Callable[[], Any], device: str) -> tuple[Any, int | None]:
    """``run``'s answer, and the bytes it had in use at its highest above those before it.

    On the CPU it is the process's resident memory, which Linux alone can reset (None elsewhere):
    memory that the allocator kept from earlier calls is given back first, so that it counts.
    """
    if device == "cuda":
        return _peak_on_gpu(run)
    if not _reset_peak():
        return run(), None
    before = _status("VmRSS")
    answer = run()
    return answer, max(_status("VmHWM") - before, 0)


def _peak_on_gpu(run: Callable[[], Any]) -> tuple[Any, int]:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    answer = run()
    torch.cuda.synchronize()
    return answer, torch.cuda.max_memory_allocated() - before


def _reset_peak() -> bool:
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # 5: set the peak to what is in use now
    except (OSError, AttributeError):
        return False
    return True


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
