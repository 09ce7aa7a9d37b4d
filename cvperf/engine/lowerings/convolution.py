"""Convolutions and fully connected layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cvperf.backends.cpu.conv2d import algorithm_for, prepare
from cvperf.backends.registry import FLOATING
from cvperf.engine.lower import Lower, lowers
from cvperf.engine.passes.convolution import CONV2D
from cvperf.engine.steps import Value


@lowers(CONV2D)
def conv2d(
    lower: Lower,
    image: Value,
    weight: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    activation: str | None = None,
    residual: Value | None = None,
    packed: None = None,
    algorithm: str = "automatic",
) -> Any:
    fixed = weight.buffer.tensor
    if fixed is None or image.dtype not in FLOATING:
        return NotImplemented
    image = lower.image(image)
    residual = None if residual is None else lower.image(residual)
    layer = lower.weights.convolution(fixed, groups)
    chosen = algorithm_for(image.shape, layer.weight, stride, padding, dilation, groups, algorithm)
    geometry = (image.shape, tuple(layer.weight.shape), *map(tuple, (stride, padding, dilation)))
    call, shape = prepare(geometry, groups, True, True, image.dtype, activation, chosen)
    output = lower.program.new(shape, image.dtype, torch.channels_last)
    read = (
        image,
        lower.fixed(layer.weight),
        lower.fixed(layer.form(dilation, chosen)),
        bias,
        residual,
    )
    work = 2 * math.prod(shape) * math.prod(layer.weight.shape[1:])
    return lower.native(f"conv2d, {chosen}", call, read, output, work)


@lowers(torch.ops.aten.linear.default)
def linear(lower: Lower, x: Value, weight: Value, bias: Value | None = None) -> Any:
    """A 1x1 convolution of an image of one column, a row of ``x`` a pixel."""
    fixed = weight.buffer.tensor
    rows = math.prod(x.shape[:-1])
    if fixed is None or fixed.dim() != 2 or x.dtype not in FLOATING or rows == 0:
        return NotImplemented
    x = lower.contiguous(x)
    filters, channels = fixed.shape
    layer = lower.weights.convolution(_as_filters(fixed), 1)
    one = (1, 1)
    image = (1, channels, rows, 1)
    chosen = algorithm_for(image, layer.weight, one, (0, 0), one, 1, "automatic")
    geometry = (image, (filters, channels, 1, 1), one, (0, 0), one)
    call, _ = prepare(geometry, 1, True, True, x.dtype, None, chosen)
    shape = (*x.shape[:-1], filters)
    output = lower.program.new(shape, x.dtype, torch.contiguous_format)
    read = (x, lower.fixed(layer.weight), lower.fixed(layer.form(one, chosen)), bias, None)
    return lower.native("linear", call, read, output, 2 * rows * filters * channels)


def _as_filters(weight: Tensor) -> Tensor:
    return weight.view(*weight.shape, 1, 1)
