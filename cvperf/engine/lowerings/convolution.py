"""Convolutions and fully connected layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends.cpu.conv2d import algorithm_for, conv_transpose2d_call, prepare
from cvperf.backends.registry import FLOATING
from cvperf.engine.lower import Lower, lowers
from cvperf.engine.passes.convolution import CONV2D
from cvperf.engine.steps import Value
from cvperf.ops._convolution import as_pair

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
    window = (stride, padding, dilation)
    call, read, shape, chosen = _layer(
        lower, image.shape, fixed, bias, window, groups, activation, algorithm
    )
    output = lower.program.new(shape, image.dtype, torch.channels_last)
    work = 2 * math.prod(shape) * math.prod(fixed.shape[1:])
    return lower.native(f"conv2d, {chosen}", call, (image, *read, residual), output, work)


def _layer(
    lower: Lower,
    size: tuple[int, ...],
    weight: Tensor,
    bias: Value | None,
    window: tuple[Sequence[int], Sequence[int], Sequence[int]],
    groups: int = 1,
    activation: str | None = None,
    algorithm: str = "automatic",
) -> tuple[_C.Call, tuple[Value | None, ...], tuple[int, ...], str]:
    """A convolution of an image of this size; ``window`` is stride, padding and dilation.

    Returns:
        The call; what it reads between image and residual; its output's size; the algorithm.
    """
    layer = lower.weights.convolution(weight, groups)
    chosen = algorithm_for(size, layer.weight, *window, groups, algorithm)
    geometry = (size, tuple(layer.weight.shape), *map(tuple, window))
    call, shape = prepare(geometry, groups, True, True, weight.dtype, activation, chosen)
    packed = layer.form(window[2], chosen)
    bias = None if bias is None else lower.contiguous(bias)
    return call, (lower.fixed(layer.weight), lower.fixed(packed), bias), shape, chosen


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
        as_pair("stride", stride, 1),
        as_pair("padding", padding, 0),
        as_pair("output_padding", output_padding, 0),
        groups,
        as_pair("dilation", dilation, 1),
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
    window = ((1, 1), (0, 0), (1, 1))
    image = (1, channels, rows, 1)
    call, read, _, _ = _layer(lower, image, fixed.view(filters, channels, 1, 1), bias, window)
    output = lower.program.new((*x.shape[:-1], filters), x.dtype, torch.contiguous_format)
    return lower.native("linear", call, (x, *read, None), output, 2 * rows * filters * channels)
