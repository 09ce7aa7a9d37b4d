"""Steps on bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

import cvperf.ops.conv2d_int8
import cvperf.ops.quantize  # noqa: F401  (defines the ops)
from cvperf.backends.cpu import arithmetic
from cvperf.backends.cpu.conv2d_int8 import plan
from cvperf.engine.lower import Lower, lowers
from cvperf.engine.lowerings.arithmetic import dense
from cvperf.engine.steps import Value

_OURS = torch.ops.cvperf


@lowers(_OURS.conv2d_int8.default)
def conv2d_int8(
    lower: Lower,
    image: Value,
    packed: Value,
    weight_size: Sequence[int],
    groups: int,
    scale_input: float,
    scale_weight: Value | None,
    zero_point_input: int,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    activation: str | None,
    residual: Value | None,
    *finish: Any,
) -> Any:
    image = lower.image(image)
    residual = None if residual is None else lower.image(residual)
    weights = [
        None if each is None else each.buffer.tensor for each in (packed, scale_weight, bias)
    ]
    held, scale, offset = weights
    if held is None:
        return NotImplemented
    call, _, shape = plan(
        *(image.meta, held, weight_size, groups, scale_input, scale, zero_point_input, offset),
        *(stride, padding, dilation, activation, residual and residual.meta, *finish),
    )
    output = lower.program.new(shape, finish[-1], torch.channels_last)
    read = (image, *(lower.fixed(each) for each in weights), residual)
    work = 2 * math.prod(shape) * math.prod(weight_size[1:])
    return lower.native("conv2d_int8", call, read, output, work)


@lowers(_OURS.quantize.default)
def quantize(
    lower: Lower, x: Value, scale: Value, zero_point: Value, axis: int | None, dtype: torch.dtype
) -> Any:
    return _converted(lower, "quantize", x, scale, zero_point, dtype)


@lowers(_OURS.dequantize.default)
def dequantize(
    lower: Lower, x: Value, scale: Value, zero_point: Value, axis: int | None, dtype: torch.dtype
) -> Any:
    return _converted(lower, "dequantize", x, scale, zero_point, dtype)


def _converted(
    lower: Lower, name: str, x: Value, scale: Value, zero_point: Value, dtype: torch.dtype
) -> Any:
    step, zero = scale.buffer.tensor, zero_point.buffer.tensor
    if step is None or zero is None or step.numel() != 1 or zero.numel() != 1:
        return NotImplemented
    x = dense(lower, x)
    make = getattr(arithmetic, name)
    call, _ = make(x.shape, x.meta.stride(), x.dtype, float(step), int(zero), dtype)
    return lower.native(name, call, (x,), lower.program.like(x.meta.to(dtype)))
