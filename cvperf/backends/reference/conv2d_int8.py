"""INT8 convolution in float64, where sums of 8-bit products are exact."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.backends.reference.activation import activate
from cvperf.backends.reference.int8_gemm import pack_int8, unpacked_int8
from cvperf.backends.registry import register


@register("pack_conv2d_int8", "reference", "cpu", (torch.int8,), automatic=False)
def pack_conv2d_int8(weight: Tensor, groups: int) -> Tensor:
    """A matrix [kh * kw * C/groups, O/groups] a group; depthwise [kw * whole quads of kh, O]."""
    filters, channels, height = weight.shape[:3]
    if groups > 1 and channels == 1 and filters == groups:
        rows = torch.nn.functional.pad(weight, (0, 0, 0, -height % 4))
        return pack_int8(rows[:, 0].permute(2, 1, 0).flatten(0, 1))
    matrices = weight.permute(2, 3, 1, 0).flatten(0, 2)
    return torch.cat([pack_int8(matrix) for matrix in matrices.chunk(groups, 1)])


def _unpacked_conv2d_int8(packed: Tensor, weight_size: Sequence[int], groups: int) -> Tensor:
    """The weight [O, C/groups, kh, kw] again, in float64."""
    filters, channels, height, width = weight_size
    if groups > 1 and channels == 1 and filters == groups:
        rows = (height + 3) // 4 * 4
        matrix = unpacked_int8(packed, width * rows, filters)
        return matrix.reshape(width, rows, 1, filters).permute(3, 2, 1, 0)[:, :, :height]
    k, n = height * width * channels, filters // groups
    matrix = torch.cat([unpacked_int8(part, k, n) for part in packed.chunk(groups)], 1)
    return matrix.reshape(height, width, channels, filters).permute(3, 2, 0, 1)


@register("conv2d_int8", "reference", "cpu", (torch.int8, torch.uint8), automatic=False)
def conv2d_int8(
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
) -> Tensor:
    """The formula in float64, where sums of 8-bit products are exact."""
    value = torch.nn.functional.conv2d(
        image.double() - zero_point_input,
        _unpacked_conv2d_int8(packed, weight_size, groups),
        None,
        tuple(stride),
        tuple(padding),
        tuple(dilation),
        groups,
    )
    scale = 1.0 if scale_weight is None else scale_weight.double().reshape(-1, 1, 1)
    value = value * scale_input * scale
    if bias is not None:
        value = value + bias.double().reshape(-1, 1, 1)
    if residual is not None:
        value = value + (residual.double() - zero_point_residual) * scale_residual
    value = activate(activation, value)
    if out_dtype in (torch.int8, torch.uint8):
        limits = torch.iinfo(out_dtype)
        value = (value / scale_output).round() + zero_point_output
        value = value.nan_to_num(nan=limits.min).clamp(limits.min, limits.max)
    return value.to(out_dtype).contiguous(memory_format=torch.channels_last)
