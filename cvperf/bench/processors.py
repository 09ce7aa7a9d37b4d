"""The processors of this machine: which threads share a core, which caches they have."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cvperf import _C

_SYSTEM = Path("/sys/devices/system/cpu")


def allowed() -> list[int]:
    """The processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def spread(threads: int, system: Path = _SYSTEM) -> list[int]:
    """A processor for each thread: one of every core first, then the others of those cores.

    More threads than processors begin again at the first.
    """
    seen: dict[str, int] = {}
    ranked = []
    for processor in allowed():
        siblings = system / f"cpu{processor}/topology/thread_siblings_list"
        core = siblings.read_text() if siblings.exists() else str(processor)
        seen[core] = seen.get(core, 0) + 1
        ranked.append((seen[core], processor))
    order = [processor for _, processor in sorted(ranked)]
    return [order[thread % len(order)] for thread in range(threads)]


@contextmanager
def placed(processors: Sequence[int]) -> Iterator[None]:
    """Keep each thread of the pool on a processor of its own; afterwards they roam again.

    On a busy machine the system may leave two threads on one core for seconds, each waiting for
    the other at the end of every call. Only Linux places threads.
    """
    before = allowed()
    _C.place_threads([[processor] for processor in processors])
    try:
        yield
    finally:
        _C.place_threads([before for _ in processors])


def caches(processors: Sequence[int], system: Path = _SYSTEM) -> dict[str, int]:
    """Bytes of each level of cache from L2 on that the processors have together, smallest first.

    Empty where the system does not tell.
    """
    levels: dict[int, dict[str, int]] = {}
    for processor in processors:
        for index in (system / f"cpu{processor}/cache").glob("index*"):
            level = int(_text(index / "level"))
            if level >= 2 and _text(index / "type") != "Instruction":
                sharers = _text(index / "shared_cpu_list")
                levels.setdefault(level, {})[sharers] = _size(_text(index / "size"))
    return {f"L{level}": sum(sizes.values()) for level, sizes in sorted(levels.items())}


def _text(path: Path) -> str:
    return path.read_text().strip()


def _size(text: str) -> int:
    """``"512K"`` in bytes."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text)
