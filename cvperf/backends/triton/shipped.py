"""The calls that stand for everything that ships: what is compiled and checked without a GPU.

Each op has a function that yields calls on ``meta`` tensors; together they launch every shipped
configuration. The sizes are those of real layers, since they decide how a kernel is specialised.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Call:
    """One call that ships.

    Attributes:
        op: the op.
        name: what is special about it; (op, name) is unique.
        run: makes the call; within ``offline.compiling``.
    """

    op: str
    name: str
    run: Callable[[], Any]


def calls() -> Iterator[Call]:
    """Every call of every op."""
    yield from int8_gemm()
    yield from paste_masks()
    yield from elementwise()


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor without data."""
    return torch.empty(shape, dtype=dtype, device="meta")


def int8_gemm() -> Iterator[Call]:
    from cvperf.backends.triton import int8_gemm as backend
    from cvperf.backends.triton.layouts import packed_int8_shape

    def call(
        name: str,
        size: tuple[int, int, int],
        out: torch.dtype,
        dtype: torch.dtype = torch.int8,
        zero: bool = False,
        activation: str | None = None,
    ) -> Call:
        m, k, n = size
        a, b = meta(m, k, dtype=dtype), meta(*packed_int8_shape(k, n), dtype=torch.int8)
        scaled = out != torch.int32
        arguments = (
            *(a, b, n, meta(m) if scaled else None, meta(n) if scaled else None),
            *(meta(m, dtype=torch.int32) if zero else None, meta(n) if scaled else None),
            *(activation, out),
        )
        return Call("int8_gemm", name, lambda: backend.int8_gemm(*arguments))

    large, medium, tail = (4096, 4096, 4096), (1024, 1024, 1024), (4096, 4080, 4096)
    yield call("large, exact sums", large, torch.int32)
    yield call("large, to bfloat16", large, torch.bfloat16, activation="silu")
    yield call("large, to float32", large, torch.float32)
    yield call("large, requantised", large, torch.int8, activation="relu")
    yield call("large, unsigned with zero points", large, torch.bfloat16, torch.uint8, zero=True)
    yield call("large, K with a tail", tail, torch.bfloat16)
    yield call("medium", medium, torch.float32)
    yield call("skinny", (64, 4096, 4096), torch.bfloat16)
    yield call("few rows", (16, 4096, 4096), torch.bfloat16)
    yield call("few rows, unsigned", (1, 4096, 4096), torch.float32, torch.uint8, zero=True)


def paste_masks() -> Iterator[Call]:
    from cvperf.backends.triton import paste_masks as backend

    def call(name: str, height: int, width: int, threshold: float | None) -> Call:
        masks, boxes = meta(100, 28, 28), meta(100, 4)
        run = functools.partial(
            backend.paste_masks, masks, boxes, height, width, threshold, padding=1
        )
        return Call("paste_masks", name, run)

    yield call("800x1333", 800, 1333, 0.5)
    yield call("480x640, values", 480, 640, None)


def elementwise() -> Iterator[Call]:
    from cvperf.backends.triton import elementwise as backend

    def features(dtype: torch.dtype, channels_last: bool = True) -> Tensor:
        format = torch.channels_last if channels_last else torch.contiguous_format
        return meta(8, 256, 56, 56, dtype=dtype).contiguous(memory_format=format)

    half, images = features(torch.bfloat16), meta(8, 640, 640, 3, dtype=torch.uint8)
    bias = meta(256, dtype=torch.bfloat16)
    scale, zero = meta(256), meta(1, dtype=torch.int32)
    pixels = images.permute(0, 3, 1, 2)
    yield Call(
        "bias_activation",
        "channels-last, bfloat16, residual, relu",
        lambda: backend.bias_activation(half, bias, half, "relu"),
    )
    planes = features(torch.bfloat16, channels_last=False)
    yield Call(
        "bias_activation",
        "NCHW, bfloat16, silu",
        lambda: backend.bias_activation(planes, bias, None, "silu"),
    )
    yield Call(
        "quantize",
        "a scale for all",
        lambda: backend.quantize(half, meta(1), zero, None, torch.int8),
    )
    yield Call(
        "quantize",
        "a scale a channel",
        lambda: backend.quantize(features(torch.float32), scale, zero, 1, torch.uint8),
    )
    yield Call(
        "dequantize",
        "a scale a channel",
        lambda: backend.dequantize(features(torch.int8), scale, zero, 1, torch.bfloat16),
    )
    for channels_last in (True, False):
        yield Call(
            "normalize_image",
            "pixels to " + ("pixels" if channels_last else "planes"),
            functools.partial(
                backend.normalize_image, pixels, [0.5] * 3, [0.25] * 3, torch.bfloat16,
                channels_last,
            ),
        )  # fmt: skip
    yield Call(
        "normalize_image",
        "planes to pixels",
        lambda: backend.normalize_image(
            pixels.contiguous(), [0.5] * 3, [0.25] * 3, torch.float32, True
        ),
    )
