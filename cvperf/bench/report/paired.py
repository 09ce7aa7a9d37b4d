"""How much faster one contender is than another, from samples that were taken in turns."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
FEWEST_ROUNDS = 6
"""The median of 5 values lies outside all of them in 1 of 16 tries: no 95 % interval exists."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ratio:
    """A peer's time over ours: above 1 we are faster. Too few rounds give no interval."""

    value: float
    low: float | None
    high: float | None
    rounds: int
    apart: bool = False
    """Where there is no interval: whether the samples of the two do not overlap at all, and are
    so many that chance does this in less than one of twenty tries."""

    @property
    def verdict(self) -> str:
        """``faster``, ``slower``, ``even`` where the interval includes 1, or ``undecided`` where
        the rounds are too few to say."""
        if self.low is None or self.high is None:
            if not self.apart:
                return "undecided"
        elif self.low <= 1 <= self.high:
            return "even"
        return "faster" if self.value > 1 else "slower"


def log_ratios(theirs: Sequence[float], ours: Sequence[float]) -> Floats:
    """log(theirs / ours) of each round that both took part in.

    A contender whose median is known leaves the rounds early, so the longer list is cut.
    """
    rounds = min(len(theirs), len(ours))
    return np.log(np.asarray(theirs[:rounds], float) / np.asarray(ours[:rounds], float))


def ratio(theirs: Sequence[float], ours: Sequence[float], confidence: float = 0.95) -> Ratio:
    """Median of the rounds' ratios, with a bootstrap interval of that median.

    Both contenders of a round met the same machine, so what slows it slows both and cancels.

    Args:
        theirs, ours: milliseconds a call; index i of both was measured in round i. Not empty.
        confidence: share of the resampled medians that the interval holds.
    """
    logs = log_ratios(theirs, ours)
    value = float(np.exp(np.median(logs)))
    if len(logs) < FEWEST_ROUNDS:
        return Ratio(value, None, None, len(logs), _apart(theirs, ours))
    medians = np.median(logs[draws(len(logs))], axis=1)
    tail = (1 - confidence) / 2
    low, high = np.exp(np.quantile(medians, [tail, 1 - tail]))
    return Ratio(value, float(low), float(high), len(logs))


def _apart(theirs: Sequence[float], ours: Sequence[float]) -> bool:
    """The permutation test at 5 %, for the one outcome that needs no computing: of all the ways
    to deal the samples to the two, only two put every sample of one below all of the other."""
    overlap = min(theirs) <= max(ours) and min(ours) <= max(theirs)
    ways = math.comb(len(theirs) + len(ours), len(ours))
    return not overlap and 2 / ways < 0.05


@functools.cache
def draws(rounds: int, stream: int = 0) -> NDArray[np.int64]:
    """Indices [RESAMPLES, rounds] drawn with replacement: the same in every run of the report.

    Args:
        stream: another number gives other draws, for a second run that is resampled beside.
    """
    return np.random.default_rng((rounds, stream)).integers(0, rounds, (RESAMPLES, rounds))


def geometric_mean(values: Sequence[float]) -> float:
    """The mean of ratios: 2 and 1/2 give 1. ``values`` is not empty."""
    return float(np.exp(np.mean(np.log(values))))
