"""Element-wise passes in CUDA C++: every dtype, layout, axis and activation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cvperf import ops
from cvperf.backends import reference
from cvperf.ops._activation import ACTIVATIONS
from tests.kernels.cuda.emulation import Schedule
from tests.kernels.cuda.faults import Fault
from tests.kernels.cuda.harness import SCHEDULES, assert_close, on_cuda

FLOATS = [torch.float16, torch.bfloat16, torch.float32]
FORMATS = [torch.contiguous_format, torch.channels_last]
SHAPES = [(2, 3, 5, 7), (2, 37, 4, 9), (1, 64, 1, 1), (300, 20)]


def laid_out(x: Tensor, format: torch.memory_format) -> Tensor:
    return x.contiguous(memory_format=format) if x.dim() == 4 else x


def check_bias(shape: tuple[int, ...], format: torch.memory_format, dtype: torch.dtype,
               activation: str | None, residual: bool = True) -> None:  # fmt: skip
    x, bias = laid_out(torch.randn(shape).to(dtype), format), torch.randn(shape[1]).to(dtype)
    other = torch.randn(shape).to(dtype) if residual else None
    found = on_cuda(ops.bias_activation, x, bias, other, activation)
    doubles = None if other is None else other.double()
    assert_close(found, reference.bias_activation(x.double(), bias.double(), doubles, activation))
    assert found.stride() == x.stride()


def channels_last() -> None:
    check_bias((2, 37, 4, 9), torch.channels_last, torch.float32, None)


def planes() -> None:
    check_bias((2, 37, 4, 9), torch.contiguous_format, torch.float32, None)


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_bias_activation(activation: str | None) -> None:
    for shape in SHAPES:
        for format in FORMATS:
            check_bias(shape, format, torch.float32, activation)
    for dtype in FLOATS:
        check_bias((2, 37, 4, 9), torch.channels_last, dtype, activation, residual=False)


def test_bias_and_residual_may_be_missing() -> None:
    x = torch.randn(4, 9)
    assert torch.equal(on_cuda(ops.bias_activation, x, None, None, "relu"), x.relu())


def check_quantize(shape: tuple[int, ...], format: torch.memory_format, dtype: torch.dtype,
                   axis: int | None, out: torch.dtype) -> None:  # fmt: skip
    """The same bits as the CPU kernel, which is held to torch's."""
    x = laid_out((3 * torch.randn(shape)).to(dtype), format)
    count = 1 if axis is None else shape[axis]
    scale = torch.rand(count) * 0.05 + 0.01
    zero = torch.randint(0, 40, (count,), dtype=torch.int32)
    found = on_cuda(ops.quantize, x, scale, zero, axis=axis, dtype=out)
    assert torch.equal(found, ops.quantize(x, scale, zero, axis=axis, dtype=out))
    assert found.stride() == x.stride()
    for wide in FLOATS:
        back = on_cuda(ops.dequantize, found, scale, zero, axis=axis, dtype=wide)
        assert_close(back, reference.dequantize(found, scale, zero, axis, torch.float64))


def quantize_channels() -> None:
    check_quantize((2, 37, 4, 9), torch.channels_last, torch.float32, 1, torch.uint8)


@pytest.mark.parametrize("out", [torch.int8, torch.uint8])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_quantize_and_dequantize(axis: int | None, out: torch.dtype) -> None:
    for shape in SHAPES:
        for format in FORMATS:
            check_quantize(shape, format, torch.float32, axis, out)
    for dtype in FLOATS:
        check_quantize((3, 20), torch.contiguous_format, dtype, axis, out)


def rounding() -> None:
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, 300.0, -300.0, math.inf, -math.inf, math.nan])
    found = on_cuda(ops.quantize, x, 1.0, 3)
    assert found.tolist() == [3, 5, 5, 3, 1, 127, -128, 127, -128, -128]


def test_quantize_rounds_half_to_even_and_saturates() -> None:
    rounding()


def check_image(channels: int, size: tuple[int, int], layout: str, format: torch.memory_format,
                dtype: torch.dtype, schedule: Schedule = SCHEDULES[0]) -> None:  # fmt: skip
    pixels = torch.randint(0, 256, (2, *size, channels), dtype=torch.uint8)
    planes = pixels.permute(0, 3, 1, 2)
    image = pixels if layout == "NHWC" else planes.contiguous()
    mean, std = torch.rand(channels).tolist(), (torch.rand(channels) + 0.2).tolist()
    found = on_cuda(
        ops.normalize_image,
        image,
        mean,
        std,
        layout=layout,
        dtype=dtype,
        memory_format=format,
        schedule=schedule,
    )
    value = (planes.double() / 255 - torch.tensor(mean).double().view(-1, 1, 1)) / torch.tensor(
        std
    ).double().view(-1, 1, 1)
    assert_close(found, value)
    assert found.is_contiguous(memory_format=format)


def to_planes() -> None:
    check_image(3, (23, 31), "NHWC", torch.contiguous_format, torch.float32)


def many_channels() -> None:
    for schedule in SCHEDULES:
        for layout, format in (("NHWC", torch.contiguous_format), ("NCHW", torch.channels_last)):
            check_image(19, (23, 31), layout, format, torch.float32, schedule)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("format", FORMATS)
def test_normalize_image(layout: str, format: torch.memory_format) -> None:
    for channels in (1, 3, 4, 19):
        check_image(channels, (23, 31), layout, format, torch.float32)
    for dtype in (torch.float16, torch.bfloat16):
        check_image(3, (40, 40), layout, format, dtype)


def test_layouts_are_turned_in_every_order() -> None:
    many_channels()


def test_empty_input() -> None:
    assert on_cuda(ops.bias_activation, torch.rand(0, 3), torch.rand(3), None, "relu").shape == (
        0,
        3,
    )
    assert on_cuda(ops.quantize, torch.rand(2, 0), 1.0).shape == (2, 0)
    empty = torch.zeros(0, 4, 4, 3, dtype=torch.uint8)
    found = on_cuda(ops.normalize_image, empty, [0.5] * 3, [0.5] * 3, layout="NHWC")
    assert found.shape == (0, 3, 4, 4)


FAULTS = [
    Fault(
        "a run of a channel is one element short",
        *("elementwise.cu", "++inside == inner", "++inside + 1 >= inner", planes),
    ),
    Fault(
        "after the last channel comes no first",
        *("elementwise.cu", "channel + 1 == count ? 0 : channel + 1", "channel + 1", channels_last),
    ),
    Fault(
        "every channel has the first scale",
        *("elementwise.cu", "scale[channel * scale_step]", "scale[0]", quantize_channels),
    ),
    Fault(
        "fractions are cut off",
        *("activation.cuh", "static_cast<int>(rintf(x))", "static_cast<int>(x)", rounding),
    ),
    Fault(
        "a tile is read before it is full",
        *("elementwise.cu", "    __syncthreads();\n    if constexpr (TO_PLANES)"),
        *("    if constexpr (TO_PLANES)", to_planes),
    ),
    Fault(
        "a tile is filled while it is read",
        *("elementwise.cu", "    }\n    __syncthreads();\n  }\n}", "    }\n  }\n}", many_channels),
    ),
]
