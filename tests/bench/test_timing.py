"""The clock tells known factors apart from noise."""

from __future__ import annotations

import math
import statistics

import pytest
import torch

from cvperf.bench.contender import Contender
from cvperf.bench.timing import Plan, Timing, measure

pytestmark = pytest.mark.usefixtures("one_thread")
PLAN = Plan(seconds=1.5, min_samples=21, max_samples=120, precision=0.005)


def work(times: int) -> Contender:
    """A matrix product, done so many times a call; its operands stay in the cache."""
    left, right = torch.rand(2, 96, 96)

    def run() -> torch.Tensor:
        for _ in range(times - 1):
            left @ right
        return left @ right

    return Contender(run)


@pytest.mark.parametrize(("few", "many"), [(10, 11), (4, 5), (2, 4), (1, 10)])
def test_a_contender_slowed_by_a_known_factor_is_measured_within_5_percent(
    few: int, many: int
) -> None:
    slow, fast = measure([work(many), work(few)], PLAN)
    paired = [a / b for a, b in zip(slow.samples_ms, fast.samples_ms, strict=False)]
    factor = many / few
    assert statistics.median(paired) == pytest.approx(factor, rel=0.05), (slow, fast)


def test_the_same_work_twice_measures_the_same() -> None:
    first, second = measure([work(5), work(5)], PLAN)
    assert first.median / second.median == pytest.approx(1, rel=0.05)


class Script:
    """A clock that reads out what it was told, so that no test waits."""

    def __init__(self, **seconds: list[float]) -> None:
        self.seconds = seconds
        self.seen: list[tuple[str, int]] = []

    def sampler(self, run):  # type: ignore[no-untyped-def]
        name = run()
        times = iter(self.seconds[name])
        last = self.seconds[name][-1]

        def sample(calls: int) -> float:
            self.seen.append((name, calls))
            return next(times, last)

        return sample


def named(name: str) -> Contender:
    return Contender(lambda: name)


def test_a_short_call_is_repeated_until_a_sample_is_long_enough() -> None:
    clock = Script(a=[1e-4])
    measure([named("a")], Plan(sample_s=0.005, min_samples=3, max_samples=3), clock)
    assert max(calls for _, calls in clock.seen) == 50


def test_warm_up_goes_on_until_two_samples_agree() -> None:
    falling = [0.09, 0.05, 0.03, 0.02, 0.0195, 0.0195]
    clock = Script(a=falling)
    (timing,) = measure([named("a")], Plan(seconds=10, min_samples=3, max_samples=3), clock)
    assert timing.samples_ms == pytest.approx((19.5,) * 3)


def test_a_call_longer_than_its_time_is_measured_once() -> None:
    clock = Script(slow=[40.0], fast=[0.01])
    slow, fast = measure([named("slow"), named("fast")], Plan(seconds=1), clock)
    assert slow.samples_ms == pytest.approx((40_000,))
    assert len(fast.samples_ms) >= 9


def test_rounds_end_when_the_medians_are_known() -> None:
    plan = Plan(seconds=100, min_samples=9, max_samples=60, precision=0.01)
    (steady,) = measure([named("a")], plan, Script(a=[0.2]))
    assert len(steady.samples_ms) == 9
    noisy = [0.2, 0.3] * 100
    (restless,) = measure([named("a")], plan, Script(a=noisy))
    assert len(restless.samples_ms) == 60


def test_contenders_take_turns_in_a_changing_order() -> None:
    clock = Script(a=[0.2], b=[0.2], c=[0.2])
    plan = Plan(seconds=1e9, min_samples=20, max_samples=20)
    measure([named(name) for name in "abc"], plan, clock)
    names = [name for name, _ in clock.seen][3:]  # after the first call of each
    rounds = [tuple(names[i : i + 3]) for i in range(0, len(names), 3)]
    assert len(rounds) == 20
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) >= 4


def test_percentiles_are_interpolated() -> None:
    timing = Timing((4.0, 1.0, 3.0, 2.0, 5.0))
    assert timing.median == 3
    assert timing.percentile(20) == pytest.approx(1.8)
    assert timing.percentile(80) == pytest.approx(4.2)
    assert math.isclose(Timing((7.0,)).percentile(20), 7)


def test_the_context_is_entered_around_samples_and_left() -> None:
    inside: list[bool] = []
    from contextlib import contextmanager

    @contextmanager
    def context():  # type: ignore[no-untyped-def]
        inside.append(True)
        yield
        inside.append(False)

    seen = []
    contender = Contender(lambda: seen.append(inside[-1]), context=context)
    measure([contender], Plan(seconds=0.05, min_samples=3, max_samples=3))
    assert seen
    assert all(seen)
    assert inside[-1] is False
