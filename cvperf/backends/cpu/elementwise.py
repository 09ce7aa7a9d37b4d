"""Element-wise passes on the CPU: bias and activation, to and from 8 bits, images to floats."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends.channels import channel_view, dense, dense_format, memory_format
from cvperf.backends.cpu.dtypes import DTYPES
from cvperf.backends.cpu.memory import empty
from cvperf.backends.registry import FLOATING, layout_of, register


def _empty_like(x: Tensor, dtype: torch.dtype) -> Tensor:
    return empty(tuple(x.shape), dtype, dense_format(x))


@register("bias_activation", "cpu", "cpu", FLOATING)
def bias_activation(
    x: Tensor, bias: Tensor | None, residual: Tensor | None, activation: str | None
) -> Tensor:
    x = dense(x)
    bias = None if bias is None else bias.contiguous()
    residual = None if residual is None else residual.contiguous(memory_format=dense_format(x))
    output = _empty_like(x, x.dtype)
    _C.bias_activation(
        DTYPES[x.dtype],
        x.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        0 if residual is None else residual.data_ptr(),
        channel_view(x, None if bias is None else 1),
        getattr(_C.Activation, activation or "none"),
        output.data_ptr(),
        torch.get_num_threads(),
    )
    return output


@register("quantize", "cpu", "cpu", (torch.float16, torch.bfloat16, torch.float32))
def quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None, dtype: torch.dtype
) -> Tensor:
    x, scale, zero_point = dense(x), scale.contiguous(), zero_point.contiguous()
    output = _empty_like(x, dtype)
    _C.quantize(
        DTYPES[x.dtype],
        x.data_ptr(),
        scale.data_ptr(),
        scale.numel() > 1,
        zero_point.data_ptr(),
        zero_point.numel() > 1,
        channel_view(x, axis),
        DTYPES[dtype],
        output.data_ptr(),
        torch.get_num_threads(),
    )
    return output


@register("dequantize", "cpu", "cpu", (torch.int8, torch.uint8))
def dequantize(
    q: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None, dtype: torch.dtype
) -> Tensor:
    q = dense(q)
    view = channel_view(q, axis)
    offset, factor = zero_point.float(), scale
    if view[1] > 1:
        offset, factor = offset.expand(view[1]).contiguous(), factor.expand(view[1]).contiguous()
    return _scaled(q, offset, factor, view, _empty_like(q, dtype))


@register("normalize_image", "cpu", "cpu", (torch.uint8,))
def normalize_image(
    image: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    image = dense(image)
    count, channels, height, width = image.shape
    offset, factor = _offset_and_factor(tuple(mean), tuple(std))
    format = memory_format(channels_last)
    output = empty((count, channels, height, width), dtype, format)
    if image.is_contiguous(memory_format=format):
        inner = 1 if channels_last else height * width
        view = (image.numel() // max(channels * inner, 1), channels, inner)
        return _scaled(image, offset, factor, view, output)
    _C.normalize_image(
        image.data_ptr(),
        layout_of(image) == "channels_last",
        (count, channels, height * width),
        offset.data_ptr(),
        factor.data_ptr(),
        DTYPES[dtype],
        output.data_ptr(),
        torch.get_num_threads(),
    )
    return output


def _scaled(
    x: Tensor, offset: Tensor, factor: Tensor, view: tuple[int, int, int], output: Tensor
) -> Tensor:
    """``(x - offset[c]) * factor[c]`` of bytes, written to ``output``."""
    _C.dequantize(
        DTYPES[x.dtype],
        x.data_ptr(),
        offset.data_ptr(),
        factor.data_ptr(),
        view,
        DTYPES[output.dtype],
        output.data_ptr(),
        torch.get_num_threads(),
    )
    return output


@functools.lru_cache(64)
def _offset_and_factor(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """``(x / 255 - mean) / std`` as ``(x - offset) * factor``."""
    with torch.inference_mode(False):
        offset = torch.tensor([255.0 * each for each in mean], dtype=torch.float32)
        factor = torch.tensor([1.0 / (255.0 * each) for each in std], dtype=torch.float32)
    return offset, factor
