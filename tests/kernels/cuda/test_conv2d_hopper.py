"""Convolution by TMA and wgmma: exact sums of integers for every window, in the emulator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cvperf import ops
from cvperf.backends import reference
from cvperf.backends.cuda import conv2d_plan, hopper
from cvperf.backends.gpu.configs import Config, forcing
from cvperf.backends.gpu.conv2d_layer import Layer
from cvperf.backends.gpu.model import A100, B200, H100
from tests.kernels.convolutions import Case
from tests.kernels.cuda.emulation import Schedule
from tests.kernels.cuda.faults import Fault
from tests.kernels.cuda.harness import SCHEDULES, assert_close, on_cuda

HALF, BF16 = torch.float16, torch.bfloat16
NARROW, SQUARE = hopper.tile(128, 64, 8), hopper.tile(128, 128, 6)

CASES = {
    "3x3, two blocks of channels": Case((2, 72, 9, 7), 24, (3, 3), padding=(1, 1), dtype=HALF),
    "stride 2, uneven padding": Case((3, 16, 9, 8), 70, (3, 3), (2, 2), (1, 2), dtype=HALF),
    "1x1 stride 2": Case((1, 40, 7, 9), 24, (1, 1), (2, 2), dtype=BF16),
    "5x5 padded beyond its half": Case((1, 8, 6, 7), 5, (5, 5), (1, 1), (4, 3), dtype=HALF),
    "uneven": Case((2, 16, 11, 13), 18, (3, 2), (2, 3), (2, 1), (2, 3), dtype=HALF),
    "tiles within and across images": Case((3, 8, 13, 12), 136, (3, 3), padding=(1, 1), dtype=HALF),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def conv2d(config: Config, *args: Any, schedule: Schedule = SCHEDULES[0], **more: Any) -> Tensor:
    with forcing(config):
        found: Tensor = on_cuda(ops.conv2d, *args, capability=90, schedule=schedule, **more)
    return found


def integers(case: Case) -> tuple[Tensor, Tensor]:
    """Image and weight of small integers: their sums are exact in float32, and in float16."""

    def rounded(tensor: Tensor) -> Tensor:
        return tensor.clamp(-2, 2).round()

    image, weight, _ = case.tensors()
    return rounded(image), rounded(weight)


def check_exact(case: Case, config: Config = NARROW, schedules: list[Schedule] = SCHEDULES) -> None:
    image, weight = integers(case)
    expected = reference.conv2d(image.double(), weight.double(), None, *case.geometry, None, None)
    for schedule in schedules:
        found = conv2d(config, image, weight, None, *case.geometry, schedule=schedule)
        assert torch.equal(found.double(), expected), f"{case}, {schedule}"


@each_case
def test_sums_are_exact_for_every_window(case: Case) -> None:
    check_exact(case)


def test_wide_tiles() -> None:
    check_exact(CASES["tiles within and across images"], SQUARE, [SCHEDULES[0], SCHEDULES[-1]])


def test_the_epilogue_is_that_of_the_other_kernels() -> None:
    case = CASES["stride 2, uneven padding"]
    image, weight, residual = case.tensors()
    bias = case.tensor(case.filters)
    wide = [one.double() for one in (image, weight, bias)]
    expected = reference.conv2d(*wide, *case.geometry, "silu", residual.double())
    found = conv2d(
        *(NARROW, image, weight, bias, *case.geometry), activation="silu", residual=residual
    )
    assert_close(found, expected, weight[0].numel(), str(case))


@pytest.mark.parametrize(
    ("dtype", "zero", "padding"),
    [(torch.int8, 0, (1, 1)), (torch.uint8, 0, (1, 1)), (torch.uint8, 7, (0, 0))],
)
def test_8_bits(dtype: torch.dtype, zero: int, padding: tuple[int, int]) -> None:
    low, high = (0, 256) if dtype == torch.uint8 else (-128, 128)
    image = torch.randint(low, high, (2, 48, 7, 6), dtype=torch.int16).to(dtype)
    image = image.contiguous(memory_format=torch.channels_last)
    weight = torch.randint(-128, 128, (20, 48, 3, 3), dtype=torch.int16).to(torch.int8)
    scales = torch.rand(20) * 1e-3
    arguments = {"scale_input": 0.5, "scale_weight": scales, "zero_point_input": zero}
    expected = torch.nn.functional.conv2d(
        image.double() - zero, weight.double(), padding=padding
    ) * (0.5 * scales.double()).view(1, -1, 1, 1)
    with forcing(NARROW):
        found = on_cuda(
            *(ops.conv2d_int8, image, weight), padding=padding, out_dtype=torch.float32,
            capability=90, schedule=SCHEDULES[-1], **arguments,
        )  # fmt: skip
    assert_close(found, expected, 1, "8 bits")


def test_who_takes_tensor_copies() -> None:
    layer = Layer.of((8, 64, 56, 56), (64, 64, 3, 3), (1, 1), (1, 1), (1, 1), 1)
    takes = conv2d_plan.takes_tensor_copies
    assert takes(H100, layer, 2, 576)
    assert not takes(A100, layer, 2, 576)
    assert not takes(B200, layer, 2, 576)
    assert not takes(H100, layer, 1, 576, fill=3), "padding with a zero point"
    assert not takes(H100, replace(layer, groups=2), 2, 576)
    assert not takes(H100, replace(layer, channels=36), 2, 324), "channels of 72 bytes"
    assert not takes(H100, replace(layer, stride=(9, 1)), 2, 576)
    assert not takes(H100, replace(layer, kernel=(300, 1)), 2, 576)


def test_large_layers_take_it_and_a_few_pixels_do_not() -> None:
    for images, size, taken in ((32, 28, True), (1, 7, False)):
        layer = Layer.of((images, 512, size, size), (512, 512, 3, 3), *((1, 1),) * 3, 1)
        space, product = conv2d_plan.forward_choices(H100, layer, "half", (2, 2), 4608)
        kind = conv2d_plan._likeliest(conv2d_plan._Case(H100, space, product))
        assert hopper.is_tile(space.default(H100, kind)) == taken


def padded_window() -> None:
    check_exact(CASES["stride 2, uneven padding"], schedules=SCHEDULES[:2])


def two_blocks() -> None:
    check_exact(CASES["3x3, two blocks of channels"], schedules=SCHEDULES[:2])


FILE = "conv2d_hopper.cu"
FAULTS = [
    Fault(
        "windows begin at the image's corner",
        *(FILE, "first % out_width * stride_w - padding_w", "first % out_width * stride_w"),
        padded_window,
    ),
    Fault(
        "taps go across before down",
        *(FILE, "int right = tap % kernel_w", "int right = tap / kernel_w"),
        padded_window,
    ),
    Fault(
        "every step has the first channels",
        *(FILE, "channel = step % blocks * Tile::BK", "channel = 0"),
        two_blocks,
    ),
]
