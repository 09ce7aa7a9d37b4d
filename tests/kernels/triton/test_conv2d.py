"""Convolution in Triton: forward and gradients against float64, every form of the kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch

from cvperf import ops
from cvperf.backends import reference
from cvperf.backends.triton import conv2d_plan
from tests.kernels.convolutions import Case
from tests.kernels.triton.faults import Fault
from tests.kernels.triton.harness import as_on, assert_close, on_triton, to_device

HALF, BF16, SINGLE = torch.float16, torch.bfloat16, torch.float32
ACTIVATIONS = (None, "relu", "relu6", "silu", "hardswish", "sigmoid", "leaky_relu")


@pytest.fixture(autouse=True)
def exact_float32() -> Iterator[None]:
    """On a GPU float32 would be TensorFloat32, as torch allows its own convolutions."""
    conv: Any = torch.backends.cudnn.conv
    before, conv.fp32_precision = conv.fp32_precision, "ieee"
    yield
    conv.fp32_precision = before


DENSE = {
    "3x3": Case((2, 20, 9, 7), 33, (3, 3), padding=(1, 1)),
    "3x3 stride 2": Case((1, 32, 9, 8), 40, (3, 3), (2, 2), (1, 2), dtype=HALF),
    "1x1": Case((2, 72, 6, 5), 24, (1, 1), dtype=BF16),
    "1x1 stride 2": Case((1, 40, 7, 9), 24, (1, 1), (2, 2)),
    "1x1 padded": Case((1, 24, 5, 4), 16, (1, 1), (1, 1), (1, 1), dtype=HALF),
    "first layer": Case((1, 3, 17, 14), 24, (7, 7), (2, 2), (3, 3), dtype=HALF),
    "one channel": Case((2, 1, 9, 8), 5, (3, 3), (1, 1), (1, 1), dtype=BF16),
    "uneven": Case((1, 12, 11, 13), 18, (3, 2), (2, 3), (2, 1), (2, 3), 2),
    "grouped": Case((1, 24, 6, 7), 36, (3, 3), (1, 1), (1, 1), groups=3, dtype=HALF),
    "dilation and stride share a divisor": Case((1, 16, 12, 9), 9, (3, 3), (4, 2), (3, 2), (2, 4)),
    "nchw": Case((2, 17, 5, 9), 6, (3, 3), (1, 1), (1, 1), dtype=BF16, channels_last=False),
    "long sum": Case((1, 300, 3, 4), 20, (3, 3), (1, 1), (1, 1), dtype=HALF),
    "several tiles": Case((1, 16, 20, 21), 150, (3, 3), (1, 1), (1, 1), dtype=HALF),
}
DEPTHWISE = {
    "3x3": Case((2, 24, 8, 7), 24, (3, 3), (1, 1), (1, 1), groups=24),
    "3x3 stride 2": Case((1, 40, 9, 8), 40, (3, 3), (2, 2), (1, 1), groups=40, dtype=HALF),
    "5x4, two filters a channel": Case(
        (1, 6, 9, 8), 12, (5, 4), (2, 1), (2, 1), groups=6, dtype=BF16
    ),
    "dilated": Case((1, 9, 9, 8), 9, (3, 3), (2, 3), (2, 2), (2, 1), groups=9, dtype=HALF),
    "nchw": Case((1, 5, 6, 7), 5, (3, 3), (1, 1), (1, 1), groups=5, channels_last=False),
}
CASES = {**DENSE, **{f"depthwise {name}": case for name, case in DEPTHWISE.items()}}
each_case = pytest.mark.parametrize("name", CASES)


def check_forward(
    case: Case,
    activation: str | None = "silu",
    bias: bool = True,
    residual: bool = True,
) -> None:
    image, weight, more = case.tensors()
    b = case.tensor(case.filters) if bias else None
    r = more if residual else None
    found = on_triton(
        ops.conv2d, image, weight, b, *case.geometry, activation=activation, residual=r
    )
    wide = [None if each is None else each.double() for each in (image, weight, b, r)]
    expected = reference.conv2d(*wide[:3], *case.geometry, activation, wide[3])
    terms = weight[0].numel()
    assert_close(found, expected, terms, str(case))
    assert found.stride() == ops.conv2d(image, weight, None, *case.geometry).stride()


def check_input_grad(case: Case) -> None:
    image, weight, grad = case.tensors()
    op = torch.ops.cvperf.conv2d_input_grad
    found = on_triton(op, grad, weight, list(image.shape), *case.geometry)
    expected = reference.conv2d_input_grad(
        grad.double(), weight.double(), image.shape, *case.geometry
    )
    assert_close(found, expected, weight[0].numel(), str(case))


def check_weight_grad(case: Case) -> None:
    image, weight, grad = case.tensors()
    op = torch.ops.cvperf.conv2d_weight_grad
    found = on_triton(op, grad, image, list(weight.shape), *case.geometry)
    expected = reference.conv2d_weight_grad(
        grad.double(), image.double(), weight.shape, *case.geometry
    )
    assert_close(found, expected, grad[:, 0].numel(), str(case))


@each_case
def test_forward(name: str) -> None:
    check_forward(CASES[name])


@each_case
def test_input_gradient(name: str) -> None:
    check_input_grad(CASES[name])


@each_case
def test_weight_gradient(name: str) -> None:
    check_weight_grad(CASES[name])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_epilogue(activation: str | None) -> None:
    case = Case((1, 16, 5, 6), 20, (1, 1), dtype=HALF)
    check_forward(case, activation)
    check_forward(case, activation, bias=False, residual=False)
    check_forward(replace(DEPTHWISE["3x3"], dtype=HALF), activation, residual=False)


def test_a_gradient_through_autograd() -> None:
    case = DENSE["3x3"]
    image, weight, grad = to_device(list(case.tensors()))
    image.requires_grad_()
    weight.requires_grad_()
    with as_on(90):
        output = ops.conv2d(image, weight, None, *case.geometry)
        found = torch.autograd.grad(output, (image, weight), grad)
    wide = [each.detach().double() for each in (image, weight)]
    expected = torch.autograd.grad(
        torch.nn.functional.conv2d(*(each.requires_grad_() for each in wide), None, *case.geometry),
        wide,
        grad.double(),
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours.cpu(), theirs.cpu(), 300)


@pytest.mark.parametrize("capability", [80, 100])
def test_the_configurations_of_other_architectures(capability: int) -> None:
    for case in (DENSE["3x3 stride 2"], DENSE["several tiles"], DENSE["first layer"]):
        image, weight, _ = case.tensors()
        found = on_triton(ops.conv2d, image, weight, None, *case.geometry, capability=capability)
        expected = reference.conv2d(
            image.double(), weight.double(), None, *case.geometry, None, None
        )
        assert_close(found, expected, weight[0].numel(), str(case))


# --- parts of a sum -------------------------------------------------------------------------------


@contextmanager
def sums_cut_in(parts: int) -> Iterator[None]:
    """Every sum is cut into so many parts, whatever the model makes of it."""
    conv2d_plan._arranged.cache_clear()
    with mock.patch.object(conv2d_plan, "best_splits", return_value=parts):
        yield
    conv2d_plan._arranged.cache_clear()


def in_parts() -> None:
    with sums_cut_in(3):
        check_forward(DENSE["long sum"])


def test_the_sum_in_parts() -> None:
    in_parts()
    with sums_cut_in(7):  # more parts than blocks: some are empty
        check_forward(DENSE["1x1"])
        check_forward(DENSE["grouped"])


def test_gradients_in_parts() -> None:
    with sums_cut_in(3):
        for name in ("3x3 stride 2", "several tiles", "grouped", "first layer"):
            check_input_grad(CASES[name])
            check_weight_grad(CASES[name])


def test_few_tiles_of_a_long_sum_are_cut_in_parts() -> None:
    """On a GPU of 132 processors; a sum that fills it is not."""
    from cvperf.backends.gpu.conv2d_product import Product
    from cvperf.backends.gpu.model import H100

    space = conv2d_plan.FORWARD["half"]
    long = Product(49, 512, 4608, 512, 1, "half", 2, 5_000_000)
    full = replace(long, rows=49 * 2048)
    for product, cut in ((long, True), (full, False)):
        config = space.shipped[90]["square"]
        assert (conv2d_plan.best_splits(H100, space, config, product) > 1) == cut


def test_the_same_bits_in_every_run() -> None:
    case = DENSE["long sum"]
    image, weight, grad = case.tensors()
    op = torch.ops.cvperf.conv2d_weight_grad
    runs = [on_triton(op, grad, image, list(weight.shape), *case.geometry) for _ in range(2)]
    assert torch.equal(*runs)


# --- edges ----------------------------------------------------------------------------------------


def test_empty_batch() -> None:
    case = replace(DENSE["3x3"], image=(0, 20, 9, 7))
    image, weight, grad = case.tensors()
    assert on_triton(ops.conv2d, image, weight, None, *case.geometry).shape == grad.shape
    op = torch.ops.cvperf.conv2d_weight_grad
    found = on_triton(op, grad, image, list(weight.shape), *case.geometry)
    assert torch.equal(found, torch.zeros_like(found))


def test_a_packed_weight_and_padding_by_name() -> None:
    case = DENSE["3x3"]
    image, weight, _ = case.tensors()
    packed = ops.pack_conv2d(to_device(weight))
    found = on_triton(ops.conv2d, image, packed, padding="same")
    expected = reference.conv2d(image.double(), weight.double(), None, *case.geometry, None, None)
    assert_close(found, expected, 180)


def test_offsets_of_64_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The form for images of 2^31 numbers, on a small one."""
    from cvperf.backends.gpu.conv2d_layer import Layer

    monkeypatch.setattr(Layer, "wide", True)
    for case in (DENSE["3x3 stride 2"], DENSE["1x1"], DENSE["first layer"], DEPTHWISE["3x3"]):
        check_forward(case)
        check_input_grad(case)
        check_weight_grad(case)


def test_nan_and_infinity_pass_through() -> None:
    image = torch.ones(1, 16, 4, 4)
    image[0, 0, 0, 0] = float("nan")
    image[0, 0, 3, 3] = float("inf")
    weight = torch.ones(16, 16, 1, 1)
    found = on_triton(ops.conv2d, image, weight, activation="relu")
    assert found[0, :, 0, 0].isnan().all()
    assert found[0, :, 3, 3].isinf().all()
    assert torch.equal(found[0, :, 1, 1], torch.full((16,), 16.0))


# --- planted faults -------------------------------------------------------------------------------


def ragged_channels() -> None:
    check_forward(DENSE["3x3"])


def strided_gradient() -> None:
    check_input_grad(DENSE["3x3 stride 2"])


def weight_gradient() -> None:
    check_weight_grad(DENSE["several tiles"])


def depthwise_dilated() -> None:
    check_forward(DEPTHWISE["dilated"])


def depthwise_weight_gradient() -> None:
    check_weight_grad(DEPTHWISE["3x3"])


FAULTS = [
    Fault(
        "the row above the image is read", "conv2d_product",
        "here = here & (y >= 0) & (y < height)", "here = here & (y < height)", ragged_channels,
    ),
    Fault(
        "the tail of the channels is not masked", "conv2d_product",
        "b_mask = b_mask & (c < channels)[:, None]", "b_mask = b_mask", ragged_channels,
    ),
    Fault(
        "taps are walked down before across", "conv2d_product",
        "x = left + tap_w * step_w", "x = left + tap_h * step_w", ragged_channels,
    ),
    Fault(
        "the second part of a sum is left out", "conv2d",
        "for _ in range(splits):", "for _ in range(splits - 1):", in_parts,
    ),
    Fault(
        "a class of a stride starts at tap 0", "conv2d_grad",
        "first = tl.where(reaches, K - back, first)", "first = tl.where(reaches, 0, first)",
        strided_gradient,
    ),
    Fault(
        "pixels beyond the last are added", "conv2d_grad",
        "here = (p < pixels)[:, None] & (y >= 0)", "here = (p >= 0)[:, None] & (y >= 0)",
        weight_gradient,
    ),
    Fault(
        "the dilation is not applied", "conv2d_depthwise",
        "source = at * stride - padding + tap * dilation", "source = at * stride - padding + tap",
        depthwise_dilated,
    ),
    Fault(
        "a column of taps beyond the kernel is stored", "conv2d_depthwise",
        "stored = (tap_w < KW)[:, None]", "stored = (tap_w < KW + 1)[:, None]",
        depthwise_weight_gradient,
    ),
]  # fmt: skip
