"""Operators that compute element by element, and softmax."""

from __future__ import annotations

from typing import Any

import torch

from cvperf.backends.cpu import arithmetic
from cvperf.engine.lower import Lower, Lowering, lowers
from cvperf.engine.lowerings.orders import order_for
from cvperf.engine.steps import Value

_ATEN = torch.ops.aten


# --- two operands


def _binary(kind: str) -> Lowering:
    def lowering(lower: Lower, a: Any, b: Any, *, alpha: float = 1) -> Any:
        if alpha != 1:
            return NotImplemented
        if not isinstance(b, Value):
            return _with_number(lower, kind, a, b)
        if not isinstance(a, Value) or a.dtype != b.dtype:
            return NotImplemented
        format, order = order_for(a, b)
        one, other = ((each.shape, each.meta.stride()) for each in (a, b))
        call, shape = arithmetic.binary(kind, one, other, order, a.dtype)
        return lower.native(kind, call, (a, b), lower.program.new(shape, a.dtype, format))

    return lowering


def _with_number(lower: Lower, kind: str, x: Value, number: float) -> Any:
    if isinstance(number, bool):
        return NotImplemented
    x = dense(lower, x)
    call, _ = arithmetic.scalar(kind, x.shape, x.meta.stride(), number, x.dtype)
    return lower.native(kind, call, (x,), lower.program.like(x.meta))


for _name, _kind in (("add", "add"), ("sub", "subtract"), ("mul", "multiply"), ("div", "divide")):
    _operator = getattr(_ATEN, _name)
    lowers(_operator.Tensor, _operator.Scalar)(_binary(_kind))
lowers(_ATEN.maximum.default)(_binary("maximum"))
lowers(_ATEN.minimum.default)(_binary("minimum"))


# --- one operand


def dense(lower: Lower, x: Value) -> Value:
    """The value, its elements without a gap in any order."""
    if x.is_channels_last() or x.meta.is_contiguous():
        return x
    return lower.contiguous(x)


def unary(lower: Lower, kind: str, x: Value, first: float = 0, second: float = 0) -> Value:
    """A step that computes one function of each element."""
    x = dense(lower, x)
    call, _ = arithmetic.unary(kind, x.shape, x.meta.stride(), x.dtype, first, second)
    return lower.native(kind, call, (x,), lower.program.like(x.meta))


def _plain(kind: str) -> Lowering:
    return lambda lower, x: unary(lower, kind, x)


for _name in (
    *("relu", "relu6", "silu", "hardswish", "sigmoid", "tanh", "mish", "hardsigmoid"),
    *("exp", "sqrt", "rsqrt", "reciprocal", "neg", "abs"),
):
    lowers(getattr(_ATEN, _name).default)(_plain(_name))


@lowers(_ATEN.pow.Tensor_Scalar)
def power(lower: Lower, x: Value, exponent: float) -> Any:
    """Squares and square roots, as in pooling by the L2 norm."""
    if exponent == 2:
        return _binary("multiply")(lower, x, x)
    return unary(lower, "sqrt", x) if exponent == 0.5 else NotImplemented


@lowers(_ATEN.leaky_relu.default)
def leaky_relu(lower: Lower, x: Value, negative_slope: float = 0.01) -> Value:
    return unary(lower, "leaky_relu", x, negative_slope)


@lowers(_ATEN.elu.default)
def elu(lower: Lower, x: Value, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Any:
    return NotImplemented if input_scale != 1 else unary(lower, "elu", x, alpha, scale)


@lowers(_ATEN.hardtanh.default)
def hardtanh(lower: Lower, x: Value, min_val: float = -1, max_val: float = 1) -> Value:
    return unary(lower, "clamp", x, min_val, max_val)


@lowers(_ATEN.clamp.default)
def clamp(lower: Lower, x: Value, min: float | None = None, max: float | None = None) -> Value:
    infinity = float("inf")
    return unary(
        lower, "clamp", x, -infinity if min is None else min, infinity if max is None else max
    )


@lowers(_ATEN.softplus.default)
def softplus(lower: Lower, x: Value, beta: float = 1, threshold: float = 20) -> Value:
    return unary(lower, "softplus", x, beta, threshold)


@lowers(_ATEN.gelu.default)
def gelu(lower: Lower, x: Value, *, approximate: str = "none") -> Value:
    return unary(lower, "gelu_tanh" if approximate == "tanh" else "gelu", x)


# --- softmax


def _softmax(logarithm: bool) -> Lowering:
    def lowering(lower: Lower, x: Value, dim: int, dtype: torch.dtype | None = None) -> Any:
        if dtype not in (None, x.dtype) or not x.shape:
            return NotImplemented
        x = dense(lower, x)
        place = dim % len(x.shape)
        call, _ = arithmetic.softmax(x.shape, x.meta.stride(), place, x.dtype, logarithm)
        return lower.native("softmax", call, (x,), lower.program.like(x.meta))

    return lowering


lowers(_ATEN.softmax.int)(_softmax(False))
lowers(_ATEN.log_softmax.int)(_softmax(True))
