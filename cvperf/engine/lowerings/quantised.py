"""Steps on bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

import cvperf.ops.conv2d_int8
import cvperf.ops.int8_gemm
import cvperf.ops.quantize  # noqa: F401  (defines the ops)
from cvperf.backends.cpu import arithmetic
from cvperf.backends.cpu import int8_gemm as gemm
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


@lowers(_OURS.int8_gemm.default)
def int8_gemm(lower: Lower, a: Value, packed: Value, n: int, *rest: Any) -> Any:
    *vectors, activation, out_dtype = rest
    fixed = [None if each is None else each.buffer.tensor for each in (packed, *vectors)]
    held = fixed[0]
    if held is None or any(
        tensor is None for tensor, each in zip(fixed[1:], vectors, strict=True) if each is not None
    ):
        return NotImplemented
    a = lower.contiguous(a)
    call, _, shape = gemm.plan(
        *(a.meta, held, n, fixed[1], fixed[2], fixed[3], fixed[4], activation, out_dtype)
    )
    output = lower.program.new(shape, out_dtype, torch.contiguous_format)
    read = (a, *(None if each is None else lower.fixed(each) for each in fixed))
    return lower.native("linear_int8", call, read, output, 2 * math.prod(shape) * a.shape[1])


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
