"""Convolution in CUDA C++: forward and gradients against float64, under every schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from cvperf import ops
from cvperf.backends import reference
from cvperf.backends.cuda import conv2d_plan
from cvperf.backends.gpu.configs import Space, forcing
from tests.kernels.convolutions import Case
from tests.kernels.cuda.faults import Fault
from tests.kernels.cuda.harness import SCHEDULES, as_on, assert_close, on_cuda, to_device

HALF, BF16 = torch.float16, torch.bfloat16
ACTIVATIONS = (None, "relu", "relu6", "silu", "hardswish", "sigmoid", "leaky_relu")

DENSE = {
    "3x3": Case((2, 20, 9, 7), 24, (3, 3), padding=(1, 1), dtype=HALF),
    "3x3 stride 2": Case((1, 40, 9, 8), 16, (3, 3), (2, 2), (1, 2), dtype=HALF),
    "1x1": Case((2, 72, 6, 5), 24, (1, 1), dtype=BF16),
    "1x1 stride 2": Case((1, 40, 7, 9), 24, (1, 1), (2, 2), dtype=HALF),
    "1x1 padded": Case((1, 24, 5, 4), 16, (1, 1), (1, 1), (1, 1), dtype=HALF),
    "5x5 padded beyond its half": Case((1, 8, 6, 7), 5, (5, 5), (1, 1), (4, 3), dtype=HALF),
    "first layer": Case((1, 3, 17, 14), 24, (7, 7), (2, 2), (3, 3), dtype=HALF),
    "one channel": Case((2, 1, 9, 8), 5, (3, 3), (1, 1), (1, 1), dtype=HALF),
    "uneven": Case((1, 12, 11, 13), 18, (3, 2), (2, 3), (2, 1), (2, 3), 2, dtype=HALF),
    "grouped": Case((1, 24, 6, 7), 48, (3, 3), (1, 1), (1, 1), groups=3, dtype=HALF),
    "dilation and stride share a divisor": Case(
        (1, 16, 12, 9), 9, (3, 3), (4, 2), (3, 2), (2, 4), dtype=HALF
    ),
    "nchw": Case((2, 17, 5, 9), 6, (3, 3), (1, 1), (1, 1), dtype=HALF, channels_last=False),
    "several tiles": Case((1, 16, 13, 12), 136, (3, 3), (1, 1), (1, 1), dtype=BF16),
}
DEPTHWISE = {
    "3x3": Case((2, 24, 8, 7), 24, (3, 3), (1, 1), (1, 1), groups=24, dtype=HALF),
    "3x3 stride 2": Case((1, 40, 9, 8), 40, (3, 3), (2, 2), (1, 1), groups=40, dtype=BF16),
    "5x5 stride 2": Case((1, 8, 9, 11), 8, (5, 5), (2, 2), (2, 2), groups=8, dtype=HALF),
    "5x5, 20 channels": Case((1, 20, 7, 6), 20, (5, 5), (1, 1), (3, 1), groups=20, dtype=HALF),
    "5x4, two filters a channel": Case(
        (1, 6, 9, 8), 12, (5, 4), (2, 1), (2, 1), groups=6, dtype=HALF
    ),
    "dilated": Case((1, 9, 9, 8), 9, (3, 3), (2, 3), (2, 2), (2, 1), groups=9, dtype=HALF),
    "7x7": Case((1, 16, 8, 9), 16, (7, 7), (1, 1), (3, 3), groups=16, dtype=HALF),
    "nchw": Case((1, 5, 6, 7), 5, (3, 3), (1, 1), (1, 1), (1, 1), 5, HALF, channels_last=False),
}
CASES = {**DENSE, **{f"depthwise {name}": case for name, case in DEPTHWISE.items()}}
each_case = pytest.mark.parametrize("name", CASES)


def check(
    what: str, op: Callable[..., Any], expected: Tensor, terms: int, *args: Any, **keywords: Any
) -> Tensor:
    """Right under every schedule, with the same bits."""
    first: Tensor | None = None
    for schedule in SCHEDULES:
        # What sm_90a takes in its place has its own tests: test_conv2d_hopper.py.
        found = on_cuda(op, *args, capability=80, schedule=schedule, **keywords)
        assert_close(found, expected, terms, f"{what}, {schedule}")
        assert first is None or torch.equal(found, first), f"{what}: other bits {schedule}"
        first = found
    assert first is not None
    return first


def check_forward(
    case: Case, activation: str | None = "silu", bias: bool = True, residual: bool = True
) -> None:
    image, weight, more = case.tensors()
    b = case.tensor(case.filters) if bias else None
    r = more if residual else None
    wide = [None if each is None else each.double() for each in (image, weight, b, r)]
    expected = reference.conv2d(*wide[:3], *case.geometry, activation, wide[3])
    found = check(
        *(str(case), ops.conv2d, expected, weight[0].numel(), image, weight, b, *case.geometry),
        activation=activation,
        residual=r,
    )
    assert found.stride() == ops.conv2d(image, weight, None, *case.geometry).stride()


def check_input_grad(case: Case) -> None:
    image, weight, grad = case.tensors()
    expected = reference.conv2d_input_grad(
        grad.double(), weight.double(), image.shape, *case.geometry
    )
    op = torch.ops.cvperf.conv2d_input_grad
    terms = weight[:, 0].numel()
    check(str(case), op, expected, terms, grad, weight, list(image.shape), *case.geometry)


def check_weight_grad(case: Case) -> None:
    image, weight, grad = case.tensors()
    expected = reference.conv2d_weight_grad(
        grad.double(), image.double(), weight.shape, *case.geometry
    )
    op = torch.ops.cvperf.conv2d_weight_grad
    terms = grad[:, 0].numel()
    check(str(case), op, expected, terms, grad, image, list(weight.shape), *case.geometry)


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
    case = Case((1, 8, 3, 4), 12, (1, 1), dtype=HALF)
    check_forward(case, activation)
    check_forward(case, activation, bias=False, residual=False)
    check_forward(DEPTHWISE["3x3"], activation, residual=False)


def test_a_gradient_through_autograd() -> None:
    case = DENSE["3x3"]
    image, weight, grad = to_device(list(case.tensors()))
    image.requires_grad_()
    weight.requires_grad_()
    with as_on(80):
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


# --- every configuration, and parts of a sum ------------------------------------------------------


def kinds(space: Space) -> list[str]:
    return list(space.shipped[80])


@pytest.mark.parametrize("kind", kinds(conv2d_plan.FORWARD["half"][True]))
def test_every_tile_that_ships(kind: str) -> None:
    case = replace(DENSE["several tiles"], dtype=HALF)
    with forcing(kind):
        check_forward(case)
        check_input_grad(case)
        check_weight_grad(case)


@contextmanager
def sums_cut_in(parts: int) -> Iterator[None]:
    """Every sum is cut into so many parts, whatever the model makes of it."""
    conv2d_plan._splits.cache_clear()
    with mock.patch.object(conv2d_plan, "best_splits", return_value=parts):
        yield
    conv2d_plan._splits.cache_clear()


def in_parts() -> None:
    with sums_cut_in(3):
        check_forward(Case((1, 136, 3, 4), 20, (3, 3), (1, 1), (1, 1), dtype=HALF))


def test_the_sum_in_parts() -> None:
    in_parts()
    with sums_cut_in(7):  # more parts than blocks: some are empty
        check_forward(DENSE["1x1 padded"])
        check_forward(DENSE["grouped"])


def test_gradients_in_parts() -> None:
    with sums_cut_in(3):
        for name in ("3x3 stride 2", "grouped", "first layer"):
            check_input_grad(CASES[name])
            check_weight_grad(CASES[name])


def test_few_tiles_of_a_long_sum_are_cut_in_parts() -> None:
    """On a GPU of 132 processors; a sum that fills it is not."""
    from cvperf.backends.gpu.conv2d_product import Product
    from cvperf.backends.gpu.model import H100

    config = conv2d_plan.FORWARD["half"][True].shipped[90]["square"]
    long = Product(49, 512, 4608, 4608, 1, "half", 2, 5_000_000)
    full = replace(long, rows=49 * 2048)
    for product, cut in ((long, True), (full, False)):
        assert (conv2d_plan.best_splits(H100, config, product) > 1) == cut


# --- edges ----------------------------------------------------------------------------------------


def test_empty_batch() -> None:
    for case in (DENSE["3x3"], DEPTHWISE["3x3"]):
        case = replace(case, image=(0, *case.image[1:]))
        image, weight, grad = case.tensors()
        assert on_cuda(ops.conv2d, image, weight, None, *case.geometry).shape == grad.shape
        op = torch.ops.cvperf.conv2d_weight_grad
        found = on_cuda(op, grad, image, list(weight.shape), *case.geometry)
        assert torch.equal(found, torch.zeros_like(found))
        op = torch.ops.cvperf.conv2d_input_grad
        assert on_cuda(op, grad, weight, list(image.shape), *case.geometry).shape == image.shape


def test_tensors_that_copies_of_16_bytes_cannot_read() -> None:
    case = DENSE["1x1 stride 2"]
    image, weight, _ = case.tensors()
    last = image.permute(0, 2, 3, 1)
    moved = last.new_empty(last.numel() + 1)[1:].view(last.shape).copy_(last).permute(0, 3, 1, 2)
    expected = reference.conv2d(image.double(), weight.double(), None, *case.geometry, None, None)
    check("moved by 2 bytes", ops.conv2d, expected, 40, moved, weight, None, *case.geometry)


def test_a_packed_weight_and_padding_by_name() -> None:
    case = DENSE["3x3"]
    image, weight, _ = case.tensors()
    packed = ops.pack_conv2d(to_device(weight))
    found = on_cuda(ops.conv2d, image, packed, padding="same")
    expected = reference.conv2d(image.double(), weight.double(), None, *case.geometry, None, None)
    assert_close(found, expected, 180)


def test_nan_and_infinity_pass_through() -> None:
    image = torch.ones(1, 16, 4, 4, dtype=HALF)
    image[0, 0, 0, 0] = float("nan")
    image[0, 0, 3, 3] = float("inf")
    weight = torch.ones(16, 16, 1, 1, dtype=HALF)
    found = on_cuda(ops.conv2d, image, weight, activation="relu")
    assert found[0, :, 0, 0].isnan().all()
    assert found[0, :, 3, 3].isinf().all()
    assert torch.equal(found[0, :, 1, 1], torch.full((16,), 16.0, dtype=HALF))


# --- planted faults -------------------------------------------------------------------------------


def padded_window() -> None:
    check_forward(DENSE["3x3"])


def grouped() -> None:
    check_forward(DENSE["grouped"])


def strided_gradient() -> None:
    check_input_grad(DENSE["3x3 stride 2"])


def weight_gradient() -> None:
    check_weight_grad(DENSE["3x3 stride 2"])


def depthwise_dilated() -> None:
    check_forward(DEPTHWISE["dilated"])


def depthwise_strided_gradient() -> None:
    check_input_grad(DEPTHWISE["5x5 stride 2"])


def depthwise_weight_gradient() -> None:
    check_weight_grad(DEPTHWISE["5x5, 20 channels"])


FAULTS = [
    Fault("the pixel left of the image is read", "conv2d_loaders.cuh",
          "static_cast<unsigned>(left[i] + across) < static_cast<unsigned>(gather.width)",
          "left[i] + across < gather.width", padded_window),
    Fault("taps are walked down before across", "conv2d_loaders.cuh",
          "across = tap_w * gather.tap_w;", "across = tap_h * gather.tap_w;", padded_window),
    Fault("a channel is carried over to the next tap", "conv2d_loaders.cuh",
          "channel -= taps * gather.run;", "channel = 0;", padded_window),
    Fault("every group has the first one's bias", "conv2d.cu",
          "moved(bias, end.bias_type, column)", "moved(bias, end.bias_type, 0)", grouped),
    Fault("the last part of a sum is left out", "conv2d_reduce.cu",
          "part < count;", "part < count - 1;", in_parts),
    Fault("parts are written over each other", "conv2d.cu",
          "static_cast<long long>(blockIdx.y) * rows", "0ll * rows", in_parts),
    Fault("a class of a stride starts at tap 0", "conv2d_grad.cu",
          ") % stride) ++first;", ") % stride) break;", strided_gradient),
    Fault("classes lie side by side", "conv2d_grad.cu",
          "x = x * stride_w + first_w;", "x = x + first_w;", strided_gradient),
    Fault("filters of a tap are walked too far", "conv2d_loaders.cuh",
          "from = at + tap_h * line + tap_w * beside;", "", strided_gradient),
    Fault("the window's stride is forgotten", "conv2d_loaders.cuh",
          "y = y * gather.step_h + top;", "y = y + top;", weight_gradient),
    Fault("the dilation is not applied", "conv2d_depthwise.cuh",
          "padding + k * dilation;", "padding + k;", depthwise_dilated),
    Fault("a turned tap meets its neighbour", "conv2d_depthwise.cuh",
          "== 2 * (j + first)", "== 2 * (j + first) + 1", depthwise_strided_gradient),
    Fault("the first worker's sums are left out", "conv2d_depthwise_grad.cu",
          "int other = 0;", "int other = 1;", depthwise_weight_gradient),
    Fault("sums are added before they are there", "conv2d_depthwise_grad.cu",
          "__syncthreads();\n    if (!active", "if (!active", depthwise_weight_gradient),
    Fault("sums are overwritten while they are added", "conv2d_depthwise_grad.cu",
          "k < COLUMNS; ++k) {\n    __syncthreads();", "k < COLUMNS; ++k) {",
          depthwise_weight_gradient),
]  # fmt: skip
