"""Weights as integers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cvperf.quant.steps import fitted, symmetric


def square_error(weight: Tensor, steps: Tensor, scale: Tensor) -> Tensor:
    values = steps.double() * scale.double().view(-1, 1, 1, 1)
    return (values - weight).square().flatten(1).sum(1)


@pytest.mark.parametrize("most", [127, 7])
def test_the_greatest_value_has_the_last_step(most: int) -> None:
    weight = torch.randn(5, 3, 3, 3)
    weight[3] = 0
    steps, scale = symmetric(weight, most)
    assert steps.dtype == torch.int8
    assert steps.abs().flatten(1).amax(1).tolist() == [most, most, most, 0, most]
    values = steps * scale.view(-1, 1, 1, 1)
    assert bool(((values - weight).abs() <= scale.view(-1, 1, 1, 1) / 2 * 1.001).all())
    again, same = symmetric(values, most)
    assert torch.equal(again, steps)
    torch.testing.assert_close(same, scale, atol=0, rtol=1e-6)


def test_a_fitted_range_loses_less() -> None:
    weight = torch.randn(64, 16, 3, 3)
    whole = square_error(weight, *symmetric(weight, 7))
    steps, scale = fitted(weight, 7)
    found = square_error(weight, steps, scale)
    assert bool((found <= whole * 1.0001).all())
    assert found.sum() < 0.9 * whole.sum()
    assert int(steps.abs().max()) == 7
