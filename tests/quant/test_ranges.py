"""Ranges against what they lose, and samples against what they stand for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cvperf.quant.observe import Observers, Sample, spread
from cvperf.quant.ranges import RANGES, entropy, extremes, least_square, percentile
from cvperf.quant.sensitivity import rounded


def outliers(seed: int = 0) -> Tensor:
    """A bell of width 1 with a few values far out on one side."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(50_000, generator=generator)
    values[:3] = 40.0
    return values


def lost(values: Tensor, low: float, high: float) -> float:
    return float((rounded(values, spread(low, high)) - values).square().mean())


def bounds(values: Tensor) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def test_percentile_leaves_out_a_ten_thousandth() -> None:
    values = torch.arange(-50_000, 150_000).float()
    assert percentile(values, *bounds(values)) == (-49_980.0, 149_979.0)


def test_least_square_is_the_least_on_its_grid() -> None:
    values = torch.cat([outliers()[3:]] * 20 + [torch.tensor([40.0])])
    low, high = least_square(values, *bounds(values))
    least = lost(values, low, high)
    assert least < 0.6 * lost(values, *extremes(values, *bounds(values)))
    for factor in (0.9, 1.1):
        assert least < 1.02 * lost(values, low * factor, high)
        assert least < 1.02 * lost(values, low, high * factor)


@pytest.mark.parametrize("rule", [percentile, entropy])
def test_outliers_are_left_out(rule: object) -> None:
    values = outliers()
    low, high = rule(values, *bounds(values))  # type: ignore[operator]
    assert -6 < low < -3
    assert 3 < high < 10


def test_entropy_keeps_what_is_even() -> None:
    values = torch.linspace(0, 1, 50_001)
    low, high = entropy(values, 0.0, 1.0)
    assert low == 0
    assert high > 0.95


@pytest.mark.parametrize("kind", sorted(RANGES))
@pytest.mark.parametrize("number", [0.0, 3.0, -2.0])
def test_one_number_everywhere(kind: str, number: float) -> None:
    values = torch.full((500, 4), number)
    low, high = RANGES[kind](values, number, number)
    assert low <= min(number, 0) + 0.02
    assert high >= max(number, 0) - 0.02
    assert low <= 0 <= high


@pytest.mark.parametrize("kind", sorted(RANGES))
def test_observers_find_the_range(kind: str) -> None:
    observers = Observers(kind)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        observers.observe("x", torch.rand(4000, 5, generator=generator) * 3 - 1)
    found = observers.scales({})["x"]
    assert found.scale == pytest.approx(3 / 255, rel=0.05)
    assert found.zero_point == pytest.approx(85, abs=6)
    twice = observers.scales({"x": torch.full((5,), 2.0)})["x"]
    assert twice.scale == pytest.approx(6 / 255, rel=0.05)


def test_a_sample_is_even() -> None:
    sample = Sample(1000)
    for part in torch.arange(20_000.0).view(-1, 1).expand(-1, 1000).split(3000):
        sample.add(part)
    kept = sample.rows[:, 0]
    assert len(kept) == Sample.ROWS == len(kept.unique())
    assert kept.mean() == pytest.approx(10_000, rel=0.06)
    assert kept.std() == pytest.approx(20_000 / 12**0.5, rel=0.06)


def test_channels_are_seen_apart() -> None:
    observers = Observers("percentile")
    rows = torch.tensor([[1.0, -2.0], [3.0, 5.0]])
    observers.observe("x", rows)
    observers.observe("x", rows - 1)
    seen = observers.seen["x"]
    assert seen.inputs == 2
    assert seen.least.tolist() == [0, -3]
    assert seen.most.tolist() == [3, 5]
    assert seen.mean.tolist() == [1.5, 1.0]
    assert seen.scaled(torch.tensor([2.0, 1.0])).most.tolist() == [6, 5]
