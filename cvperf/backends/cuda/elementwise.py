"""Element-wise passes in CUDA C++: bias and activation, to and from 8 bits, images to floats."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cvperf.backends.channels import channel_view, dense, dense_format, memory_format
from cvperf.backends.cuda.epilogue import ACTIVATION, factor
from cvperf.backends.cuda.launch import Kernel, launch
from cvperf.backends.gpu.pixels import offset_and_factor
from cvperf.backends.registry import layout_of

THREADS = 256
PIXELS = 512
"""Of a block of ``scale_turned``."""

C_TYPES = {
    torch.float32: "float",
    torch.float16: "__half",
    torch.bfloat16: "__nv_bfloat16",
    torch.int8: "signed char",
    torch.uint8: "unsigned char",
    torch.int32: "int",
}


def bias_activation(
    x: Tensor, bias: Tensor | None, residual: Tensor | None, activation: str | None
) -> Tensor:
    x = dense(x)
    residual = None if residual is None else residual.contiguous(memory_format=dense_format(x))
    bias = None if bias is None else bias.contiguous()
    output = torch.empty_like(x)
    view = channel_view(x, None if bias is None else 1)
    operands = (x, bias, residual, output, *_sizes(view), ACTIVATION[activation])
    launch(_kernel("bias_activation", x.dtype), _grid(x, output), THREADS, *operands)
    return output


def quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None, dtype: torch.dtype
) -> Tensor:
    x = dense(x)
    output = torch.empty_like(x, dtype=dtype)
    levels = (*factor(scale.contiguous()), *factor(zero_point.contiguous()))
    operands = (x, *levels, output, *_sizes(channel_view(x, axis)))
    launch(_kernel("quantize", x.dtype, dtype), _grid(x, output), THREADS, *operands)
    return output


def dequantize(
    q: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None, dtype: torch.dtype
) -> Tensor:
    q = dense(q)
    levels = zero_point.contiguous(), scale.contiguous()
    return _scaled(q, *levels, channel_view(q, axis), dtype, dense_format(q))


def normalize_image(
    image: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    image = dense(image)
    count, channels, height, width = image.shape
    offset, times = offset_and_factor(tuple(mean), tuple(std), image.device)
    format = memory_format(channels_last)
    if image.is_contiguous(memory_format=format):
        inner = 1 if channels_last else height * width
        view = (image.numel() // max(channels * inner, 1), channels, inner)
        return _scaled(image, offset, times, view, dtype, format)
    output = torch.empty_like(image, dtype=dtype, memory_format=format)
    to_planes = str(layout_of(image) == "channels_last").lower()
    grid = (count, math.ceil(height * width / PIXELS))
    operands = (image, offset, times, output, height * width, channels)
    launch(_named(f"scale_turned<{C_TYPES[dtype]}, {to_planes}>"), grid, THREADS, *operands)
    return output


def _scaled(
    q: Tensor,
    offset: Tensor,
    times: Tensor,
    view: tuple[int, int, int],
    dtype: torch.dtype,
    format: torch.memory_format,
) -> Tensor:
    """``(q - offset[c]) * times[c]`` of bytes; offset and times are [1] or a number a channel."""
    output = torch.empty_like(q, dtype=dtype, memory_format=format)
    operands = (q, *factor(offset), *factor(times), output, *_sizes(view))
    kernel = _kernel("scale", q.dtype, offset.dtype, dtype)
    launch(kernel, _grid(q, output), THREADS, *operands)
    return output


def _kernel(name: str, *dtypes: torch.dtype) -> Kernel:
    return _named(f"{name}<{', '.join(C_TYPES[dtype] for dtype in dtypes)}>")


@functools.cache
def _named(name: str) -> Kernel:
    return Kernel("elementwise.cu", name)


def _sizes(view: tuple[int, int, int]) -> tuple[np.int64, np.int64, int]:
    """Elements, neighbours of one channel, channels."""
    outer, channels, inner = view
    return np.int64(outer * channels * inner), np.int64(inner), channels


def _grid(x: Tensor, output: Tensor) -> tuple[int]:
    """Blocks whose threads take 16 bytes of the wider of input and output each."""
    vector = 16 // max(x.itemsize, output.itemsize)
    return (math.ceil(x.numel() / (vector * THREADS)),)
