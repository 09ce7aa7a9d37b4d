"""Element-wise passes in Triton: bias and activation, to and from 8 bits, images to floats."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.backends.channels import channel_view, dense, dense_format, memory_format
from cvperf.backends.gpu.configs import Config
from cvperf.backends.gpu.pixels import offset_and_factor
from cvperf.backends.registry import layout_of
from cvperf.backends.triton.launch import launch
from cvperf.kernels.triton import elementwise as kernels

ELEMENTS = 4096  # of a tile: 32 a thread, four vectors of bfloat16
FEW_CHANNELS = 16  # fewer innermost ones are taken modulo in one long row
PIXELS = 512  # of a tile whose layout is turned


def _matrix(view: tuple[int, int, int]) -> tuple[str, int, int, int]:
    """(axis of the channels, rows, columns, channels) that a kernel sees."""
    outer, channels, inner = view
    if channels == 1:
        return "none", 1, outer * inner, 1
    if inner > 1:
        return "row", outer * channels, inner, channels
    if channels < FEW_CHANNELS:
        return "modulo", 1, outer * channels, channels
    return "column", outer, channels, channels


def _tiled(axis: str, rows: int, columns: int) -> tuple[tuple[int], dict[str, object], Config]:
    """The grid, the constexpr and the configuration of a matrix."""
    most = ELEMENTS if rows == 1 else 1024
    width = min(most, max(16, 1 << max(columns - 1, 0).bit_length()))
    height = 1 if rows == 1 else ELEMENTS // width
    grid = -(-rows // height) * -(-columns // width)
    return (grid,), {"AXIS": axis}, Config.of(4, 1, BR=height, BC=width)


def bias_activation(
    x: Tensor, bias: Tensor | None, residual: Tensor | None, activation: str | None
) -> Tensor:
    x = dense(x)
    residual = None if residual is None else residual.contiguous(memory_format=dense_format(x))
    bias = None if bias is None else bias.contiguous()
    output = torch.empty_like(x)
    axis, *sizes = _matrix(channel_view(x, None if bias is None else 1))
    grid, keywords, config = _tiled(axis, *sizes[:2])
    launch(
        kernels.bias_activation_kernel,
        grid,
        *(x, bias, residual, output, *sizes),
        ACTIVATION=activation,
        config=config,
        **keywords,
    )
    return output


def quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None, dtype: torch.dtype
) -> Tensor:
    x = dense(x)
    output = torch.empty_like(x, dtype=dtype)
    where, *sizes = _matrix(channel_view(x, axis))
    grid, keywords, config = _tiled(where, *sizes[:2])
    launch(
        kernels.quantize_kernel,
        grid,
        *(x, scale.contiguous(), zero_point.contiguous(), output, *sizes),
        SCALE_EACH=scale.numel() > 1,
        ZERO_EACH=zero_point.numel() > 1,
        LOW=torch.iinfo(dtype).min,
        config=config,
        **keywords,
    )
    return output


def dequantize(
    q: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None, dtype: torch.dtype
) -> Tensor:
    q = dense(q)
    view = channel_view(q, axis)
    return _scaled(q, zero_point.contiguous(), scale.contiguous(), view, dtype, dense_format(q))


def normalize_image(
    image: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    image = dense(image)
    count, channels, height, width = image.shape
    offset, factor = offset_and_factor(tuple(mean), tuple(std), image.device)
    format = memory_format(channels_last)
    if image.is_contiguous(memory_format=format):
        inner = 1 if channels_last else height * width
        view = (image.numel() // max(channels * inner, 1), channels, inner)
        return _scaled(image, offset, factor, view, dtype, format)
    output = torch.empty_like(image, dtype=dtype, memory_format=format)
    block = min(16, 1 << (channels - 1).bit_length())
    config = Config.of(4, 1, BC=block, BP=PIXELS * 4 // block)
    launch(
        kernels.scale_turned_kernel,
        (count * -(-height * width // config["BP"]),),
        *(image, offset, factor, output, height * width, channels),
        TO_PLANES=layout_of(image) == "channels_last",
        config=config,
    )
    return output


def _scaled(
    x: Tensor,
    offset: Tensor,
    factor: Tensor,
    view: tuple[int, int, int],
    dtype: torch.dtype,
    format: torch.memory_format,
) -> Tensor:
    """``(x - offset[c]) * factor[c]`` of bytes; offset and factor are [1] or a number a channel."""
    output = torch.empty_like(x, dtype=dtype, memory_format=format)
    axis, *sizes = _matrix(view)
    grid, keywords, config = _tiled(axis, *sizes[:2])
    launch(
        kernels.scale_kernel,
        grid,
        *(x, offset, factor, output, *sizes),
        OFFSET_EACH=offset.numel() > 1,
        FACTOR_EACH=factor.numel() > 1,
        config=config,
        **keywords,
    )
    return output
