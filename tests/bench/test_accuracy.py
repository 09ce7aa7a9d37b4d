"""The tolerance table lets rounding pass and nothing else."""

from __future__ import annotations

import math

import pytest
import torch

from cvperf.bench.accuracy import largest_error, tolerance


def test_the_error_is_relative_to_the_largest_value() -> None:
    expected = torch.tensor([0.0, -4.0, 2.0], dtype=torch.float64)
    assert largest_error(expected, torch.tensor([0.0, -4.0, 3.0])) == 0.25


def test_measuring_an_error_leaves_the_reference_as_it_was() -> None:
    expected = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    largest_error(expected, torch.zeros(2))
    assert expected.tolist() == [-1.0, 2.0]


@pytest.mark.parametrize("answer", [torch.full((3,), math.nan), torch.zeros(2), torch.zeros(1, 3)])
def test_nothing_lets_a_nan_or_another_shape_pass(answer: torch.Tensor) -> None:
    assert largest_error(torch.ones(3, dtype=torch.float64), answer) == math.inf


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("terms", [9, 576, 4608, 25088])
def test_an_honest_sum_passes_and_a_planted_error_does_not(dtype: torch.dtype, terms: int) -> None:
    left, right = torch.randn(64, terms).to(dtype), torch.randn(64, terms).to(dtype)
    expected = (left.double() * right.double()).sum(1)
    answer = (left.float() * right.float()).sum(1).to(dtype)
    assert largest_error(expected, answer) <= tolerance(dtype, terms)
    answer[17] += expected.abs().max().item() * 0.02  # one wrong element in 64
    assert largest_error(expected, answer) > tolerance(dtype, terms)


def test_integers_must_be_exact() -> None:
    assert tolerance(torch.int8) == tolerance(torch.int32) == 0
