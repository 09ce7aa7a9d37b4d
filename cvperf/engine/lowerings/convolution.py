"""Convolutions and fully connected layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cvperf.backends.cpu.conv2d import algorithm_for, conv_transpose2d_call, prepare
from cvperf.backends.registry import FLOATING
from cvperf.engine.lower import Lower, lowers
from cvperf.engine.passes.convolution import CONV2D
from cvperf.engine.steps import Value

_ATEN = torch.ops.aten


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
        None if bias is None else lower.contiguous(bias),
        residual,
    )
    work = 2 * math.prod(shape) * math.prod(layer.weight.shape[1:])
    return lower.native(f"conv2d, {chosen}", call, read, output, work)


@lowers(_ATEN.conv_transpose2d.input)
def conv_transpose2d(
    lower: Lower,
    image: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    output_padding: Sequence[int] = (0, 0),
    groups: int = 1,
    dilation: Sequence[int] = (1, 1),
) -> Any:
    fixed = weight.buffer.tensor
    if fixed is None or image.dtype not in FLOATING or len(image.shape) != 4:
        return NotImplemented
    image = lower.image(image)
    fixed = fixed.contiguous(memory_format=torch.channels_last)
    call, shape = conv_transpose2d_call(
        image.shape,
        fixed,
        _pair(stride),
        _pair(padding),
        _pair(output_padding),
        groups,
        _pair(dilation),
    )
    output = lower.program.new(shape, image.dtype, torch.channels_last)
    work = 2 * math.prod(image.shape) * math.prod(fixed.shape[1:])
    lower.native("conv_transpose2d", call, (image, lower.fixed(fixed)), output, work)
    if bias is None:
        return output
    column = lower.view(_ATEN.view.default, (bias, (1, -1, 1, 1)), {})
    return lower.call_function(_ATEN.add.Tensor, (output, column), {})


@lowers(_ATEN.linear.default)
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
    bias = None if bias is None else lower.contiguous(bias)
    read = (x, lower.fixed(layer.weight), lower.fixed(layer.form(one, chosen)), bias, None)
    return lower.native("linear", call, read, output, 2 * rows * filters * channels)


def _pair(value: Sequence[int]) -> tuple[int, int]:
    return value[0], value[-1]


def _as_filters(weight: Tensor) -> Tensor:
    return weight.view(*weight.shape, 1, 1)
