"""INT8 convolution in CUDA C++."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.backends.cuda.conv2d import forward
from cvperf.backends.cuda.conv2d_depthwise import convolve
from cvperf.backends.cuda.conv2d_plan import with_copies
from cvperf.backends.cuda.conv2d_shared import aligned, pad_rows, padded
from cvperf.backends.gpu.conv2d_shared import Epilogue, layer_of, pack_conv2d_int8
from cvperf.backends.gpu.int8_operands import column_sums

__all__ = ["conv2d_int8", "pack_conv2d_int8"]


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
    layer = layer_of(image.shape, weight_size, stride, padding, dilation, groups)
    output = torch.empty(
        layer.output, dtype=out_dtype, device=image.device, memory_format=torch.channels_last
    )
    filters, packed = layer.filters * groups, packed.contiguous()
    by_sums = zero_point_input != 0 and not layer.depthwise
    epilogue = Epilogue(
        None if bias is None else bias.contiguous(),
        None if residual is None else aligned(residual),
        activation,
        column_sums(packed, filters) if by_sums else None,
        None if scale_weight is None else scale_weight.contiguous(),
        (scale_input, scale_residual, 1.0 / scale_output),
        (zero_point_input, zero_point_residual, zero_point_output),
    )
    if layer.depthwise:
        convolve(layer, aligned(image), packed, output, epilogue)
        return output
    wide = with_copies(layer)
    weight, pitch = packed, packed.stride(0)
    if wide.channels != layer.channels:
        weight = packed.new_empty((filters, wide.taps * wide.channels))
        rows = filters * layer.taps
        pad_rows(packed, weight, rows, layer.taps, pitch, layer.channels, wide.channels)
        pitch = weight.stride(0)
    fill = zero_point_input if any(layer.padding) else 0
    forward(wide, padded(image, groups), weight, pitch, output, epilogue, fill)
    return output
