"""What the GPU did: occupancy of the kernels, and the gaps in which it had none to run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cvperf.profiler.trace import Kernel, Pass


@dataclass(frozen=True)
class KernelRow:
    """All launches of one kernel."""

    name: str
    calls: int
    ms: float
    share: float
    """Of the time of all kernels."""
    occupancy: float | None
    """Percent of the resident warps possible, estimated from the launch, weighted by time."""


@dataclass(frozen=True)
class Gap:
    """A stretch in which no kernel ran."""

    start_ms: float
    us: float
    before: str
    """The kernel that ended it."""
    layer: str
    """The layer that launched that kernel."""


@dataclass(frozen=True)
class Gpu:
    """The GPU's side of a pass."""

    busy_ms: float
    idle_ms: float
    """Between the first kernel's start and the last one's end."""
    launches: int
    kernels: tuple[KernelRow, ...]
    """Most time first."""
    gaps: tuple[Gap, ...]
    """The ten longest."""


def summary(one: Pass) -> Gpu | None:
    """None where no kernel was recorded."""
    if not one.kernels:
        return None
    gaps = _gaps(one)
    idle = sum(gap.us for gap in gaps) / 1e3
    first = min(kernel.start for kernel in one.kernels)
    last = max(kernel.end for kernel in one.kernels)
    longest = sorted(gaps, key=lambda gap: -gap.us)[:10]
    return Gpu(
        busy_ms=(last - first) / 1e3 - idle,
        idle_ms=idle,
        launches=sum(not kernel.copy for kernel in one.kernels),
        kernels=_rows(one.kernels),
        gaps=tuple(longest),
    )


def _rows(kernels: Sequence[Kernel]) -> tuple[KernelRow, ...]:
    groups: dict[str, list[Kernel]] = {}
    for kernel in kernels:
        groups.setdefault(kernel.name, []).append(kernel)
    whole = sum(_us(kernel) for kernel in kernels) or 1.0
    rows = []
    for name, group in groups.items():
        us = sum(map(_us, group))
        known = [kernel for kernel in group if kernel.occupancy is not None]
        weight = sum(map(_us, known))
        mean = sum(_us(k) * float(k.occupancy or 0) for k in known) / weight if weight else None
        rows.append(KernelRow(name, len(group), us / 1e3, us / whole, mean))
    return tuple(sorted(rows, key=lambda row: -row.ms))


def _gaps(one: Pass) -> list[Gap]:
    """Stretches between kernels, over all streams together."""
    gaps = []
    end = one.kernels[0].start
    for kernel in one.kernels:  # in order of their starts
        if kernel.start > end:
            gap = Gap(end / 1e3, kernel.start - end, kernel.name, _layer(one, kernel.launcher))
            gaps.append(gap)
        end = max(end, kernel.end)
    return gaps


def _layer(one: Pass, index: int) -> str:
    while index > 0 and one.spans[index].kind != "layer":
        index = one.spans[index].parent
    return one.spans[index].name if index > 0 else ""


def _us(kernel: Kernel) -> float:
    return kernel.end - kernel.start
