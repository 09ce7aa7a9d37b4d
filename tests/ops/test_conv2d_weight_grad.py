"""The weight's gradient of 3x3 layers, which Winograd's algorithm makes where it fits."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from cvperf import ops

WORST = 6e-6  # largest error against float64 over the largest gradient


def channels_last(*shape: int) -> Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def pair(
    image: Tensor, filters: int, padding: tuple[int, int], groups: int = 1
) -> tuple[Tensor, Tensor]:
    """Ours, and that of float64."""
    size = [filters, image.shape[1] // groups, 3, 3]
    weight = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    output = torch.nn.functional.conv2d(image.double(), weight, None, 1, padding, 1, groups)
    grad = torch.randn(output.shape).to(image.dtype).contiguous(memory_format=torch.channels_last)
    (expected,) = torch.autograd.grad(output, weight, grad.double())
    geometry = ([1, 1], list(padding), [1, 1], groups)
    return torch.ops.cvperf.conv2d_weight_grad(grad, image, size, *geometry), expected


def error(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected).abs().max() / expected.abs().max())


def test_maps_that_no_tile_divides_agree_with_float64(isa: str) -> None:
    choose = random.Random(5)
    for _ in range(40):
        groups = choose.choice([1, 1, 1, 2, 3])
        channels = groups * choose.choice([2, 16, 17, 33, 64, 130])
        filters = groups * choose.choice([5, 16, 24, 49, 70, 112])
        size = choose.randint(3, 19), choose.randint(3, 23)
        padding = choose.randint(0, 3), choose.randint(0, 3)
        image = channels_last(choose.choice([1, 3, 8]), channels, *size)
        worst = error(*pair(image, filters, padding, groups))
        assert worst <= WORST, f"{worst}: {image.shape}, {filters}, {padding}, {groups}"


@pytest.mark.parametrize(("channels", "filters"), [(64, 80), (300, 16), (16, 300)])
def test_layers_in_several_chunks_agree_with_float64(channels: int, filters: int, isa: str) -> None:
    assert error(*pair(channels_last(3, channels, 57, 90), filters, (1, 1))) <= WORST


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_rounded_once(dtype: torch.dtype, isa: str) -> None:
    image = channels_last(4, 32, 20, 20).to(dtype)
    got, expected = pair(image, 48, (1, 1))
    assert got.dtype == dtype
    assert error(got, expected) <= torch.finfo(dtype).eps / 2 * 1.01


def test_the_gradient_has_the_same_bits_whatever_the_number_of_threads(isa: str) -> None:
    image, grad = channels_last(2, 70, 41, 63), channels_last(2, 90, 41, 63)
    answers, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            answers.append(
                torch.ops.cvperf.conv2d_weight_grad(
                    grad, image, [90, 70, 3, 3], [1, 1], [1, 1], [1, 1], 1
                )
            )
    finally:
        torch.set_num_threads(before)
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


def test_what_is_not_a_number_reaches_every_filter_that_sees_it(isa: str) -> None:
    """As with the direct sum, though through other sums."""
    image = channels_last(2, 32, 16, 16)
    image[0, 3, 5, 5] = float("nan")
    got = ops.conv2d(image, (weight := torch.randn(32, 32, 3, 3).requires_grad_()), padding=1)
    (grad,) = torch.autograd.grad(got, weight, channels_last(2, 32, 16, 16))
    assert grad[:, 3].isnan().all()
    assert not grad[:, [0, 31]].isnan().any()
