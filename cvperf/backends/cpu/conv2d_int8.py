"""INT8 convolution on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends.cpu.conv2d import convolution_shape, window_of
from cvperf.backends.cpu.dtypes import DTYPES
from cvperf.backends.cpu.memory import empty
from cvperf.backends.cpu.run import run
from cvperf.backends.registry import register


@register("pack_conv2d_int8", "cpu", "cpu", (torch.int8,))
def pack_conv2d_int8(weight: Tensor, groups: int) -> Tensor:
    filters, channels, height, width = weight.shape
    if groups > 1 and channels == 1 and filters == groups:  # depthwise: quads of kernel rows
        rows = torch.nn.functional.pad(weight, (0, 0, 0, -height % 4))
        matrices = rows.permute(1, 0, 3, 2).contiguous()
        k, n = width * rows.shape[2], filters
    else:
        matrices = weight.permute(0, 2, 3, 1).contiguous()
        k, n = height * width * channels, filters // groups
    size, count = _C.packed_int8_bytes(k, n), filters // n if n else 0
    packed = torch.empty(size * count, dtype=torch.uint8)
    for group in range(count):
        source = matrices.data_ptr() + group * n * k
        target = packed.data_ptr() + group * size
        _C.pack_int8(source, k, n, 1, k, target, torch.get_num_threads())
    return packed


@register("conv2d_int8", "cpu", "cpu", (torch.int8, torch.uint8))
def conv2d_int8(image: Tensor, *arguments: Any) -> Tensor:
    call, read, shape = plan(image, *arguments)
    return run(call, read, empty(shape, arguments[-1], torch.channels_last))


def plan(
    image: Tensor,
    packed: Tensor,
    weight_size: Sequence[int],
    groups: int,
    scale_input: float,
    scale_weight: Tensor | None,
    zero_point_input: int,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    activation: str | None,
    residual: Tensor | None,
    scale_residual: float,
    zero_point_residual: int,
    scale_output: float,
    zero_point_output: int,
    out_dtype: torch.dtype,
) -> tuple[_C.Conv2dInt8Call, tuple[Tensor | None, ...], tuple[int, int, int, int]]:
    """The native call, what it reads, and its output's size."""
    format = torch.channels_last
    window = window_of(weight_size, stride, padding, dilation)
    shape = convolution_shape(image.shape, weight_size, window)
    call = _C.Conv2dInt8Call(
        (*image.shape, *shape[1:]),
        window,
        groups,
        DTYPES[image.dtype],
        scale_input,
        zero_point_input,
        scale_weight is not None and scale_weight.numel() > 1,
        getattr(_C.Activation, activation or "none"),
        scale_residual,
        zero_point_residual,
        1.0 / scale_output,
        zero_point_output,
        DTYPES[out_dtype],
    )
    read = (
        image.contiguous(memory_format=format),
        packed.contiguous(),
        None if scale_weight is None else scale_weight.contiguous(),
        None if bias is None else bias.contiguous(),
        None if residual is None else residual.contiguous(memory_format=format),
    )
    return call, read, shape
