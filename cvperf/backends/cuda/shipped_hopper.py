"""Shipped calls whose kernels of sm_90a no other list of calls names.

Elsewhere the model picks something else: what those architectures ship for the same sizes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from cvperf.backends.cuda import conv2d, conv2d_int8, conv2d_plan, int8_gemm
from cvperf.backends.gpu.conv2d_layer import Layer
from cvperf.backends.gpu.layouts import packed_conv2d_int8_shape, packed_int8_shape
from cvperf.backends.gpu.model import Architecture
from cvperf.backends.gpu.shipped import Call, channels_last, meta


def calls() -> Iterator[Call]:
    """Tiles that the model picks for middling products, and each tile of a convolution."""
    for dtype in (torch.int8, torch.uint8):
        yield _gemm(2048, dtype)
        for filters in (64, 128, 1024):
            yield _conv2d_int8(filters, dtype)
    for dtype in (torch.float16, torch.bfloat16):
        for filters in (64, 128, 1024):
            yield _conv2d(filters, dtype)


def _named(what: str, dtype: torch.dtype) -> str:
    return f"{what}, {str(dtype).removeprefix('torch.')}, the model's pick"


def _gemm(size: int, dtype: torch.dtype) -> Call:
    a, b = meta(size, size, dtype=dtype), meta(*packed_int8_shape(size, size), dtype=torch.int8)
    scales = (meta(size), meta(size), None, meta(size))

    def share(gpu: Architecture) -> float:
        kind = int8_gemm.picked(gpu, size, size, size, 2)
        return int8_gemm.predicted_share(gpu, kind, size, size, size, 2)

    return Call(
        "int8_gemm",
        _named(f"large or wide, {size} cubed", dtype),
        lambda: int8_gemm.int8_gemm(a, b, size, *scales, "relu", torch.bfloat16),
        share,
    )


def _layer(filters: int) -> tuple[Layer, tuple[int, ...]]:
    """3x3 over 32 images of 64 channels."""
    weight = (filters, 64, 3, 3)
    return Layer.of((32, 64, 28, 28), weight, (1, 1), (1, 1), (1, 1), 1), weight


def _conv2d(filters: int, dtype: torch.dtype) -> Call:
    layer, weight_size = _layer(filters)
    image = channels_last(32, 64, 28, 28, dtype=dtype)
    weight = channels_last(*weight_size, dtype=dtype)
    geometry = ((1, 1), (1, 1), (1, 1), 1)
    return Call(
        "conv2d",
        _named(f"3x3 64-{filters} 28x28 n32", dtype),
        lambda: conv2d.conv2d(image, weight, None, *geometry, "relu", None),
        lambda gpu: conv2d_plan.predicted_forward_share(gpu, layer, "half", 2),
    )


def _conv2d_int8(filters: int, dtype: torch.dtype) -> Call:
    layer, weight_size = _layer(filters)
    image = channels_last(32, 64, 28, 28, dtype=dtype)
    packed = meta(*packed_conv2d_int8_shape(weight_size, 1), dtype=torch.int8)
    arguments = (
        *(image, packed, weight_size, 1, 0.02, meta(filters), 0, meta(filters)),
        *((1, 1), (1, 1), (1, 1), "relu", None, 1.0, 0, 0.07, 4, dtype),
    )
    return Call(
        "conv2d_int8",
        _named(f"int8 3x3 64-{filters} 28x28 n32", dtype),
        lambda: conv2d_int8.conv2d_int8(*arguments),
        lambda gpu: conv2d_plan.predicted_forward_share(gpu, layer, "int8", 1),
    )
