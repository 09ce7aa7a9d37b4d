"""Pooling and resizing of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from cvperf import _C
from cvperf.backends.cpu.interpolate import interpolate_call
from cvperf.backends.cpu.pool2d import (
    adaptive_avg_pool2d_call,
    avg_pool2d_call,
    avg_pool2d_int8_call,
    max_pool2d_call,
)
from cvperf.engine.lower import Lower, lowers
from cvperf.engine.steps import Value
from cvperf.ops._convolution import Pair, as_pair

_ATEN = torch.ops.aten


@lowers(_ATEN.max_pool2d.default)
def max_pool2d(
    lower: Lower,
    image: Value,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> Any:
    geometry = (*_window(kernel_size, stride, padding), as_pair("dilation", dilation, 1))
    return _image_step(
        lower,
        "max_pool2d",
        image,
        lambda *known: max_pool2d_call(known[0], *geometry, ceil_mode, known[1]),
    )


@lowers(_ATEN.avg_pool2d.default)
def avg_pool2d(
    lower: Lower,
    image: Value,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    geometry = _window(kernel_size, stride, padding)
    rules = (ceil_mode, count_include_pad, divisor_override)
    if image.dtype == torch.uint8:  # without padding: on the same scale, whatever it is
        return _image_step(
            lower,
            "avg_pool2d",
            image,
            lambda size, dtype: avg_pool2d_int8_call(
                size, *geometry, *rules, dtype, 1.0, 0, 1.0, 0, dtype
            ),
        )
    return _image_step(
        lower,
        "avg_pool2d",
        image,
        lambda size, dtype: avg_pool2d_call(size, *geometry, *rules, dtype),
    )


@lowers(_ATEN.adaptive_avg_pool2d.default)
def adaptive_avg_pool2d(lower: Lower, image: Value, output_size: Sequence[int]) -> Any:
    bins = as_pair("output_size", output_size, 0)
    return _image_step(
        lower, "avg_pool2d", image, lambda size, dtype: adaptive_avg_pool2d_call(size, bins, dtype)
    )


@lowers(_ATEN.mean.dim)
def mean(
    lower: Lower,
    image: Value,
    dim: Sequence[int] | None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Any:
    """Over the pixels of an image."""
    dims = len(image.shape)
    if dims != 4 or dim is None or sorted(each % dims for each in dim) != [2, 3]:
        return NotImplemented
    if dtype not in (None, image.dtype):
        return NotImplemented
    pooled = adaptive_avg_pool2d(lower, image, (1, 1))
    if keepdim or pooled is NotImplemented:
        return pooled
    return lower.view(_ATEN.view.default, (pooled, image.shape[:2]), {})


@lowers(_ATEN.upsample_nearest2d.vec)
def upsample_nearest2d(
    lower: Lower, image: Value, output_size: Any, scale_factors: Any = None
) -> Any:
    return _resized(lower, image, output_size, scale_factors, "nearest", False)


@lowers(_ATEN.upsample_bilinear2d.vec)
def upsample_bilinear2d(
    lower: Lower, image: Value, output_size: Any, align_corners: bool, scale_factors: Any = None
) -> Any:
    return _resized(lower, image, output_size, scale_factors, "bilinear", align_corners)


def _resized(
    lower: Lower, image: Value, size: Any, scales: Any, mode: str, align_corners: bool
) -> Any:
    scales = None if size is not None else scales
    return _image_step(
        lower,
        f"interpolate, {mode}",
        image,
        lambda shape, dtype: interpolate_call(shape, size, scales, mode, align_corners, dtype),
    )


_Prepare = Callable[[tuple[int, ...], torch.dtype], tuple[_C.Call, tuple[int, ...]]]


def _image_step(lower: Lower, name: str, image: Value, prepare: _Prepare) -> Any:
    if len(image.shape) != 4:
        return NotImplemented
    call, shape = prepare(image.shape, image.dtype)
    output = lower.program.new(shape, image.dtype, torch.channels_last)
    return lower.native(name, call, (lower.image(image),), output)


def _window(
    kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[Pair, Pair, Pair]:
    """Each as (vertical, horizontal); without a stride, windows stand side by side."""
    return (
        as_pair("kernel_size", kernel_size, 1),
        as_pair("stride", stride or kernel_size, 1),
        as_pair("padding", padding, 0),
    )
