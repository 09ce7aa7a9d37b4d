"""The clock: contenders take turns in random order until their medians are known."""

from __future__ import annotations

import gc
import math
import random
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

from cvperf.bench.contender import Contender

_WARM_UPS = 10
_TRIES = 5
_HOPELESS = 3
_LONG_S = 0.1
"""A call this long warms itself up: caches refill in a small part of it."""

Sampler = Callable[[int], float]
"""Runs a callable that many times and returns seconds a call."""


class Clock(Protocol):
    """How time is read on a device."""

    def sampler(self, run: Callable[[], Any]) -> Sampler:
        """A sampler of ``run``."""


class WallClock:
    """Seconds of the calling thread: right for work that is done when the call returns.

    A sample in which the system put another program in this one's place is taken again, as long as
    it is short: what it holds is mostly the other program. A long sample is kept, since it always
    meets others and averages over them. So is every sample of a contender that cannot have one
    undisturbed, such as one whose own threads are more than the processors.
    """

    def sampler(self, run: Callable[[], Any]) -> Sampler:
        spoilt = 0  # samples in a row that no try got undisturbed

        def sample(calls: int) -> float:
            nonlocal spoilt
            for _ in range(_TRIES if spoilt < _HOPELESS else 1):
                pushed_out = _involuntary_switches()
                start = time.perf_counter()
                for _ in range(calls):
                    run()
                spent = time.perf_counter() - start
                if spent > _LONG_S:
                    break
                if _involuntary_switches() == pushed_out:
                    spoilt = 0
                    break
            else:
                spoilt += 1
            return spent / calls

        return sample


def _involuntary_switches() -> int:
    """How often a thread of this process was pushed off its processor."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


@dataclass(frozen=True)
class Plan:
    """How long to measure. A contender is done when its median is known well, or its time is up."""

    seconds: float = 1.0
    """Time a contender may take, warm-up included; one call is always made."""
    sample_s: float = 0.002
    """Calls shorter than this are repeated in one sample: the clock and the scheduler cost too."""
    min_samples: int = 9
    max_samples: int = 60
    precision: float = 0.01
    """The median is known well when its 95 % interval is within this share of it, either side."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call, one entry a sample; sample i was taken in round i."""

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

    def percentile(self, percent: float) -> float:
        """By linear interpolation between the nearest samples."""
        ordered = sorted(self.samples_ms)
        place = (len(ordered) - 1) * percent / 100
        low, share = ordered[int(place)], place % 1
        return low + (ordered[math.ceil(place)] - low) * share


def measure(
    contenders: Sequence[Contender],
    plan: Plan = Plan(),
    clock: Clock | None = None,
    seed: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> list[Timing]:
    """Time every contender, side by side.

    Each is warmed up until two samples in a row agree. Then come rounds: in each, every contender
    gives one sample, in an order drawn anew, so that a machine that slows down slows all of them
    and nobody always follows the same neighbour. Rounds end when every median is known to
    ``plan.precision`` or every contender's time is up. A slow contender leaves the rounds early;
    if its first call alone takes longer than ``plan.seconds``, that is its only sample.

    Args:
        tick: called after each sample, for a progress bar.
    """
    clock = clock or WallClock()
    return _in_turns(
        [_Runner(_sampler(each, clock), plan, each.context) for each in contenders], seed, tick
    )


def measure_samplers(samplers: Sequence[Sampler], plan: Plan, seed: int = 0) -> list[Timing]:
    """As :func:`measure`, of contenders elsewhere, of whom there is no more than a sampler."""
    return _in_turns([_Runner(sampler, plan) for sampler in samplers], seed)


def _sampler(contender: Contender, clock: Clock) -> Sampler:
    with contender.context():
        return clock.sampler(contender.run)


def _in_turns(
    runners: Sequence[_Runner], seed: int, tick: Callable[[], None] = lambda: None
) -> list[Timing]:
    order = random.Random(seed)
    with no_garbage_collection():
        for runner in runners:
            runner.warm_up()
        while waiting := [runner for runner in runners if not runner.spent]:
            if all(runner.settled for runner in waiting):
                break
            order.shuffle(waiting)
            for runner in waiting:
                runner.sample()
                tick()
    return [runner.timing for runner in runners]


@dataclass
class _Runner:
    """One contender on its way through the rounds."""

    sampler: Sampler
    plan: Plan
    context: Callable[[], AbstractContextManager[None]] = nullcontext
    calls: int = 1
    used_s: float = 0.0
    samples: list[float] = field(default_factory=list)
    first_s: float = 0.0

    @property
    def long_s(self) -> float:
        """A call this long needs no other before it, and is a sample by itself."""
        return max(_LONG_S, self.plan.sample_s)

    def warm_up(self) -> None:
        """Find how many calls make a sample, and go on until two samples agree within 5 %."""
        with self.context():
            last = self.first_s = self._timed(1)
            for _ in range(_WARM_UPS):
                if last > self.long_s or self.used_s > self.plan.seconds / 4:
                    break
                self.calls = max(1, math.ceil(self.plan.sample_s / max(last, 1e-9)))
                seconds = self._timed(self.calls)
                if abs(seconds - last) <= 0.05 * last:
                    break
                last = seconds

    def sample(self) -> None:
        with self.context():
            if self.first_s < self.long_s:
                self._timed(1)  # the others have just filled the caches
            self.samples.append(self._timed(self.calls))

    def _timed(self, calls: int) -> float:
        start = time.perf_counter()
        seconds = self.sampler(calls)
        # Samples that were taken again cost time too.
        self.used_s += max(seconds * calls, time.perf_counter() - start)
        return seconds

    @property
    def spent(self) -> bool:
        """Whether this contender takes part in no more rounds."""
        if self.first_s > self.plan.seconds:
            return True
        count = len(self.samples)
        return count >= self.plan.max_samples or (count >= 3 and self.used_s > self.plan.seconds)

    @property
    def settled(self) -> bool:
        """Whether the median is known to the plan's precision."""
        return len(self.samples) >= self.plan.min_samples and self._uncertainty <= 1.0

    @property
    def _uncertainty(self) -> float:
        """Half the 95 % interval of the median, in units of the precision asked for.

        By order statistics (Le Boudec, "Performance Evaluation of Computer and Communication
        Systems", section 2.2): no assumption on how the noise is distributed.
        """
        ordered, count = sorted(self.samples), len(self.samples)
        reach = 0.98 * math.sqrt(count)
        low = ordered[max(math.floor(count / 2 - reach), 0)]
        high = ordered[min(math.ceil(count / 2 + reach), count - 1)]
        return (high - low) / 2 / (statistics.median(ordered) * self.plan.precision)

    @property
    def timing(self) -> Timing:
        return Timing(tuple(second * 1e3 for second in self.samples or [self.first_s]))


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """A collection in the middle of a sample would be charged to whoever runs."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
