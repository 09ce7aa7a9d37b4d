"""Memory over time: how much was in use at each moment, and what ran when it was most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cvperf.profiler.trace import ENGINE, Allocation, Pass

_POINTS = 400
"""Points of a curve; more would not be seen."""


@dataclass(frozen=True)
class Curve:
    """Bytes in use above those at the start of the pass, on one kind of memory.

    Weights and inputs made before the pass are not in it.
    """

    device: str
    """``"cpu"`` or ``"cuda"``."""
    points: tuple[tuple[float, int], ...]
    """(milliseconds since the pass began, bytes), peaks kept."""
    peak_bytes: int
    peak_ms: float
    peak_op: str
    """The op that was running, and the layer that it is in; empty for none."""
    peak_layer: str


def curves(one: Pass) -> list[Curve]:
    """One curve for each kind of memory that the pass used."""
    kinds = {"cpu": False, "cuda": True}
    split = {
        device: [event for event in one.allocations if event.on_gpu == on_gpu]
        for device, on_gpu in kinds.items()
    }
    return [_curve(device, events, one) for device, events in split.items() if events]


def _curve(device: str, events: Sequence[Allocation], one: Pass) -> Curve:
    used, track = 0, [(0.0, 0)]
    for event in sorted(events, key=lambda event: event.time):
        used += event.bytes
        track.append((event.time / 1e3, used))
    peak_ms, peak = max(track, key=lambda point: point[1])
    op, layer = _running(one, peak_ms * 1e3)
    return Curve(device, tuple(_thinned(track)), peak, peak_ms, op, layer)


def _running(one: Pass, time: float) -> tuple[str, str]:
    """The outermost op and the innermost layer at ``time``."""
    around = [span for span in one.spans[1:] if span.start <= time <= span.end]
    layers = [span.name for span in around if span.kind == "layer"]
    inner = max((span.start for span in around if span.kind == "layer"), default=0.0)
    ops = [span.name for span in around if span.kind == "op" and span.start >= inner]
    return (ops[0].removeprefix(ENGINE) if ops else "", layers[-1] if layers else "")


def _thinned(track: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """At most _POINTS of them: the highest of each stretch."""
    step = max(-(-len(track) // _POINTS), 1)
    return [
        max(track[i : i + step], key=lambda point: point[1]) for i in range(0, len(track), step)
    ]
