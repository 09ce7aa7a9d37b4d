"""INT8 convolution in Triton."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.backends.gpu.conv2d_shared import (
    Epilogue,
    channels_last,
    layer_of,
    pack_conv2d_int8,
)
from cvperf.backends.triton.conv2d import forward
from cvperf.backends.triton.conv2d_depthwise import convolve

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
    image = channels_last(image)
    # Tensor cores multiply int8 by int8: uint8 is counted from 128, and so is its zero point.
    shift = 128 if image.dtype == torch.uint8 and not layer.depthwise else 0
    zero = zero_point_input - shift
    by_sums = zero != 0 and not layer.depthwise
    filters = layer.filters * groups
    epilogue = Epilogue(
        None if bias is None else bias.contiguous(),
        None if residual is None else channels_last(residual),
        activation,
        packed[filters:].view(-1).view(torch.int32)[:filters] if by_sums else None,
        None if scale_weight is None else scale_weight.contiguous(),
        (scale_input, scale_residual, 1.0 / scale_output),
        (zero, zero_point_residual, zero_point_output),
    )
    if layer.depthwise:
        convolve(layer, image, packed, output, epilogue)
    else:
        pitch = packed.stride(0)
        forward(layer, "int8", image, packed, pitch, output, epilogue, zero_point_input)
    return output
