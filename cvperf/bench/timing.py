"""Time two contenders side by side, so that a busy machine slows both."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

_SHORTEST_SAMPLE_S = 0.05  # below this the clock and the scheduler are part of the answer


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call, one entry a sample."""

    samples_ms: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples_ms)

    @property
    def low(self) -> float:
        return min(self.samples_ms)

    @property
    def high(self) -> float:
        return max(self.samples_ms)


@dataclass(frozen=True)
class Contender:
    """A callable, and the context it runs in: entering and leaving that is not timed."""

    run: Callable[[], Any]
    context: Callable[[], AbstractContextManager[None]] = nullcontext

    def once(self) -> Any:
        """The answer of one call."""
        with self.context():
            return self.run()

    def sample_ms(self) -> float:
        """Milliseconds of one call; a call too short to time alone is repeated and averaged."""
        with self.context():
            seconds = _seconds(self.run, 1)
            if seconds < _SHORTEST_SAMPLE_S:
                calls = math.ceil(_SHORTEST_SAMPLE_S / max(seconds, 1e-6))
                seconds = _seconds(self.run, calls)
        return seconds * 1e3


def side_by_side(
    first: Contender,
    second: Contender,
    repeats: int,
    tick: Callable[[], None] = lambda: None,
) -> tuple[Timing, Timing]:
    """Time both ``repeats`` times over, in turns; who begins a turn changes each time.

    Args:
        repeats: samples of each, at least 1.
        tick: called after each sample, for a progress bar.
    """
    samples: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            samples[which].append((first, second)[which].sample_ms())
            tick()
    return Timing(tuple(samples[0])), Timing(tuple(samples[1]))


def _seconds(run: Callable[[], Any], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls
