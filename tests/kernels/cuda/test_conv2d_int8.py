"""INT8 convolution in CUDA C++: exact sums, zero points, every output, under every schedule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cvperf.backends import reference
from cvperf.backends.cuda import conv2d_plan
from cvperf.backends.gpu.configs import forcing
from cvperf.errors import ArgumentError
from cvperf.ops import conv2d_int8, pack_conv2d_int8
from cvperf.ops._convolution import as_pair
from tests.kernels.cuda.faults import Fault
from tests.kernels.cuda.harness import SCHEDULES, as_on, assert_close, on_cuda, to_device
from tests.kernels.cuda.test_conv2d import sums_cut_in

RANGES = {torch.int8: (-128, 128), torch.uint8: (0, 256)}

# image, filters, kernel, geometry
LAYERS: dict[str, tuple[Any, ...]] = {
    "3x3": ((2, 32, 7, 6), 40, (3, 3), {"padding": 1}),
    "3x3 stride 2": ((1, 48, 9, 8), 20, (3, 3), {"stride": 2, "padding": (1, 2)}),
    "1x1": ((1, 80, 6, 7), 24, (1, 1), {}),
    "first layer": ((1, 3, 17, 14), 16, (7, 7), {"stride": 2, "padding": 3}),
    "one channel": ((2, 1, 6, 5), 5, (3, 3), {"padding": 2}),
    "uneven": ((1, 17, 12, 9), 5, (3, 2),
               {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)}),
    "grouped": ((1, 24, 6, 5), 36, (3, 3), {"padding": 1, "groups": 3}),
    "depthwise": ((1, 32, 7, 6), 32, (3, 3), {"padding": 1, "groups": 32}),
    "depthwise 5x5 stride 2": ((1, 24, 9, 8), 24, (5, 5),
                               {"padding": 2, "stride": 2, "groups": 24}),
    "depthwise, two filters": ((1, 6, 6, 6), 12, (3, 2), {"stride": 2, "padding": 1, "groups": 6}),
}  # fmt: skip


def random_tensor(*shape: int, dtype: torch.dtype = torch.int8) -> Tensor:
    return torch.randint(*RANGES[dtype], shape, dtype=torch.int16).to(dtype)


def tensors(name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, dict[str, Any]]:
    shape, filters, kernel, geometry = LAYERS[name]
    image = random_tensor(*shape, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = random_tensor(filters, shape[1] // geometry.get("groups", 1), *kernel)
    return image, weight, geometry


def exact(image: Tensor, weight: Tensor, zero: int, **geometry: Any) -> Tensor:
    return torch.nn.functional.conv2d(image.double() - zero, weight.double(), **geometry)


def check_exact(name: str, dtype: torch.dtype, zero: int) -> None:
    image, weight, geometry = tensors(name, dtype)
    expected = exact(image, weight, zero, **geometry)
    steps = {"zero_point_input": zero, "out_dtype": torch.int32, **geometry}
    for schedule in SCHEDULES:
        # What sm_90a takes in its place has its own tests: test_conv2d_hopper.py.
        found = on_cuda(conv2d_int8, image, weight, capability=80, schedule=schedule, **steps)
        assert torch.equal(found.double(), expected), f"{name} {zero} {schedule}"


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("zero", [0, 100])
def test_sums_are_exact(name: str, zero: int) -> None:
    check_exact(name, torch.uint8, zero)


@pytest.mark.parametrize("name", ["3x3", "depthwise"])
def test_signed_sums_are_exact(name: str) -> None:
    check_exact(name, torch.int8, -7)


@pytest.mark.parametrize("kind", conv2d_plan.FORWARD["int8"][True].shipped[80])
def test_every_tile_that_ships(kind: str) -> None:
    with forcing(kind):
        check_exact("3x3", torch.uint8, 3)


def finished(
    name: str, dtype: torch.dtype, out: torch.dtype, activation: str | None
) -> tuple[Tensor, Tensor]:
    """The answer with everything that an epilogue has, and the reference's."""
    image, weight, geometry = tensors(name, dtype)
    filters, groups = weight.shape[0], geometry.get("groups", 1)
    eight_bits = out in RANGES
    scale_weight, bias = torch.rand(filters) * 0.01 + 0.001, torch.randn(filters)
    shape = exact(image, weight, 0, **geometry).shape
    residual = random_tensor(*shape, dtype=out) if eight_bits else torch.randn(shape).to(out)
    steps: dict[str, Any] = {}
    if eight_bits:
        steps = {"scale_residual": 0.05, "zero_point_residual": 7}
        steps |= {"scale_output": 0.07, "zero_point_output": 4}
    with as_on(80):
        found = conv2d_int8(
            to_device(image), pack_conv2d_int8(to_device(weight), groups), scale_input=0.02,
            scale_weight=to_device(scale_weight), zero_point_input=9, bias=to_device(bias),
            activation=activation, residual=to_device(residual), out_dtype=out, groups=groups,
            **{key: value for key, value in geometry.items() if key != "groups"}, **steps,
        ).cpu()  # fmt: skip
    pairs = (geometry.get(key, least) for key, least in
             (("stride", 1), ("padding", 0), ("dilation", 1)))  # fmt: skip
    expected = reference.conv2d_int8(
        image, reference.pack_conv2d_int8(weight, groups), weight.shape, groups, 0.02,
        scale_weight, 9, bias, *(as_pair("", pair, 0) for pair in pairs), activation, residual,
        *(steps.values() or (1.0, 0, 1.0, 0)), out if eight_bits else torch.float64,
    )  # fmt: skip
    return found, expected


@pytest.mark.parametrize("activation", [None, "relu", "hardswish"])
@pytest.mark.parametrize("name", ["3x3", "first layer", "depthwise"])
def test_real_outputs(name: str, activation: str | None) -> None:
    for out in (torch.float32, torch.bfloat16, torch.float16):
        assert_close(*finished(name, torch.uint8, out, activation))


def requantised() -> None:
    for name in ("3x3", "grouped", "depthwise"):
        for dtype in (torch.uint8, torch.int8) if name != "grouped" else (torch.uint8,):
            found, expected = finished(name, dtype, dtype, "relu")
            # Half a step from two sides in float32 and float64: at most the neighbour, and rarely.
            off = (found.long() - expected.long()).abs()
            assert int(off.max()) <= 1
            assert float((off > 0).double().mean()) < 0.01


def test_requantised_outputs() -> None:
    requantised()


def test_the_sum_in_parts() -> None:
    with sums_cut_in(3):
        assert_close(*finished("3x3 stride 2", torch.uint8, torch.float32, "silu"))
        check_exact("grouped", torch.uint8, 100)


def test_saturation_and_rounding_half_to_even() -> None:
    image = torch.tensor([1, 3, 5, 127, -128], dtype=torch.int8).view(5, 1, 1, 1)
    weight = torch.ones(1, 1, 1, 1, dtype=torch.int8)
    found = on_cuda(conv2d_int8, image, weight, scale_output=2.0, out_dtype=torch.int8)
    assert found.flatten().tolist() == [0, 2, 2, 64, -64]
    found = on_cuda(conv2d_int8, image, weight, scale_input=10.0, scale_output=1.0)
    assert found.flatten().tolist() == [10, 30, 50, 127, -128]


def test_one_scale_for_all_filters() -> None:
    image, weight, geometry = tensors("1x1", torch.uint8)
    found = on_cuda(conv2d_int8, image, weight, scale_weight=0.25, **geometry)
    assert torch.equal(found.double(), exact(image, weight, 0) * 0.25)


def test_a_weight_packed_for_the_cpu_is_refused() -> None:
    image, weight, _ = tensors("1x1", torch.int8)
    packed = pack_conv2d_int8(weight)
    with as_on(80), pytest.raises(ArgumentError, match="on the device of input"):
        conv2d_int8(to_device(image), packed)


# --- planted faults -------------------------------------------------------------------------------


def padded_with_a_zero_point() -> None:
    check_exact("3x3", torch.uint8, 100)


def depthwise_with_a_zero_point() -> None:
    check_exact("depthwise", torch.uint8, 100)


FAULTS = [
    Fault("padding stands for the number 0", "conv2d_loaders.cuh", "fill && !valid",
          "fill > 255u && !valid && false", padded_with_a_zero_point),
    Fault("the zero point is added", "conv2d.cu", "end.zero = zero_image;",
          "end.zero = -zero_image;", padded_with_a_zero_point),
    Fault("depthwise padding stands for the number 0", "conv2d_depthwise.cu",
          "outside.values[v] = static_cast<T>(zero_image);", "outside.values[v] = 0;",
          depthwise_with_a_zero_point),
    Fault("the residual's zero point is dropped", "conv2d.cu",
          "end.zero_residual = zero_residual;", "", requantised),
]  # fmt: skip
