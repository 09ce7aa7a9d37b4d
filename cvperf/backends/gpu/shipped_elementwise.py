"""Shipped calls of the element-wise passes, which every backend serves."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from cvperf.backends.gpu.model import streamed_share
from cvperf.backends.gpu.shipped import Call, meta


def calls(backend: Any) -> Iterator[Call]:
    """Every kernel of a backend's ``elementwise.py``, with the dtypes that models use."""

    def call(op: str, name: str, bytes: int, run: Callable[[], Tensor]) -> Call:
        return Call(op, name, run, functools.partial(streamed_share, memory_bytes=bytes))

    def features(dtype: torch.dtype, channels_last: bool = True) -> Tensor:
        format = torch.channels_last if channels_last else torch.contiguous_format
        return meta(8, 256, 56, 56, dtype=dtype).contiguous(memory_format=format)

    half, planes = features(torch.bfloat16), features(torch.bfloat16, channels_last=False)
    bias, scale, zero = meta(256, dtype=torch.bfloat16), meta(256), meta(1, dtype=torch.int32)
    yield call(
        "bias_activation",
        "channels-last, bfloat16, residual, relu",
        3 * half.nbytes,
        lambda: backend.bias_activation(half, bias, half, "relu"),
    )
    yield call(
        "bias_activation",
        "NCHW, bfloat16, silu",
        2 * half.nbytes,
        lambda: backend.bias_activation(planes, bias, None, "silu"),
    )
    yield call(
        "quantize",
        "a scale for all",
        3 * half.numel(),
        lambda: backend.quantize(half, meta(1), zero, None, torch.int8),
    )
    yield call(
        "quantize",
        "a scale a channel",
        5 * half.numel(),
        lambda: backend.quantize(features(torch.float32), scale, zero, 1, torch.uint8),
    )
    yield call(
        "dequantize",
        "a scale a channel",
        3 * half.numel(),
        lambda: backend.dequantize(features(torch.int8), scale, zero, 1, torch.bfloat16),
    )

    pixels = meta(8, 640, 640, 3, dtype=torch.uint8).permute(0, 3, 1, 2)

    def normalize(name: str, image: Tensor, dtype: torch.dtype, channels_last: bool) -> Call:
        return call(
            "normalize_image",
            name,
            image.numel() * (1 + dtype.itemsize),
            lambda: backend.normalize_image(image, [0.5] * 3, [0.25] * 3, dtype, channels_last),
        )

    yield normalize("pixels to pixels", pixels, torch.bfloat16, True)
    yield normalize("pixels to planes", pixels, torch.bfloat16, False)
    yield normalize("planes to pixels", pixels.contiguous(), torch.float32, True)
