"""Native calls that compute element by element, and softmax.

Each function takes what is known of tensors before they are there, and returns the call and the
shape of what it writes. All compute in float32 and round once; dtypes are float32, float16 and
bfloat16. Where nothing else is said, the output is laid out as the input, which has no gaps.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch

from cvperf import _C
from cvperf.backends.cpu.dtypes import DTYPES
from cvperf.backends.cpu.strides import (
    Ints,
    broadcast_strides,
    check_dense,
    check_dim,
    check_order,
    collapse,
    order_of,
    permuted,
)
from cvperf.errors import ArgumentError, UnsupportedError

DIMS = 4

_Member = TypeVar("_Member")

_FLOATS = (torch.float32, torch.float16, torch.bfloat16)
_BYTES = (torch.int8, torch.uint8)
_ACTIVATIONS = dict(_C.Activation.__members__)
_ARITHMETIC = dict(_C.Arithmetic.__members__)
_UNARY = dict(_C.Unary.__members__)


def binary(
    kind: str,
    a: tuple[Ints, Ints],
    b: tuple[Ints, Ints],
    order: Ints,
    dtype: torch.dtype,
    activation: str = "none",
) -> tuple[_C.Call, Ints]:
    """``activation(a kind b)`` of two tensors that broadcast; reads both.

    ``a`` and ``b`` are (shape, strides), and may be any views. The output is dense in ``order``.
    ``kind`` is add, subtract, multiply, divide, maximum, minimum, reverse_subtract (b - a) or
    reverse_divide. It is fast where one operand's elements lie as the output's do and the other
    repeats a number, a row, or lies so too.

    Raises:
        ArgumentError: the shapes do not broadcast.
        UnsupportedError: more than 4 dimensions are left once neighbours are merged, or the dtype
            or name is not one of the above.
    """
    shape = _broadcast(a[0], b[0])
    check_order(shape, order)
    steps = [permuted(broadcast_strides(*each, shape), order) for each in (a, b)]
    sizes, (a_steps, b_steps) = collapse(permuted(shape, order), *steps)
    if len(sizes) > DIMS:
        raise UnsupportedError(
            f"operands of shapes {list(a[0])} and {list(b[0])} with strides {list(a[1])} and "
            f"{list(b[1])} have {len(sizes)} dimensions that do not merge, more than {DIMS}"
        )
    ahead = DIMS - len(sizes)
    call = _C.BinaryCall(
        _named("kind", kind, _ARITHMETIC),
        (*[1] * ahead, *sizes),
        (*[0] * ahead, *a_steps),
        (*[0] * ahead, *b_steps),
        _float("binary", dtype),
        _named("activation", activation, _ACTIVATIONS),
    )
    return call, shape


def scalar(
    kind: str,
    shape: Ints,
    strides: Ints,
    constant: float,
    dtype: torch.dtype,
    activation: str = "none",
) -> tuple[_C.Call, Ints]:
    """``activation(tensor kind constant)``; reads the tensor. Kinds are those of ``binary``."""
    check_dense("the tensor", shape, strides)
    call = _C.ScalarCall(
        _named("kind", kind, _ARITHMETIC),
        math.prod(shape),
        constant,
        _float("scalar", dtype),
        _named("activation", activation, _ACTIVATIONS),
    )
    return call, shape


def unary(
    kind: str, shape: Ints, strides: Ints, dtype: torch.dtype, first: float = 0, second: float = 0
) -> tuple[_C.Call, Ints]:
    """A function of each element; reads the tensor.

    ``kind`` is a member of ``_C.Unary``. Its parameters are: leaky_relu: slope; elu: alpha and what
    the result is multiplied by; clamp: least and greatest; softplus: beta and the threshold.
    """
    check_dense("the tensor", shape, strides)
    named = _named("kind", kind, _UNARY)
    return _C.UnaryCall(named, math.prod(shape), _float("unary", dtype), first, second), shape


def softmax(
    shape: Ints, strides: Ints, dim: int, dtype: torch.dtype, logarithm: bool = False
) -> tuple[_C.Call, Ints]:
    """Softmax over ``dim``, or its logarithm; reads the tensor."""
    check_dim(shape, dim)
    check_dense("the tensor", shape, strides)
    order = order_of(shape, strides)
    at, sizes = order.index(dim), permuted(shape, order)
    outer, inner = math.prod(sizes[:at]), math.prod(sizes[at + 1 :])
    return _C.SoftmaxCall(outer, shape[dim], inner, _float("softmax", dtype), logarithm), shape


def quantize(
    shape: Ints,
    strides: Ints,
    dtype: torch.dtype,
    scale: float,
    zero_point: int,
    out_dtype: torch.dtype,
) -> tuple[_C.Call, Ints]:
    """As ``cvperf.ops.quantize`` with one scale and zero point; reads the tensor."""
    check_dense("the tensor", shape, strides)
    byte = _byte("quantize", out_dtype)
    float_ = _float("quantize", dtype)
    return _C.QuantizeCall(float_, math.prod(shape), scale, zero_point, byte), shape


def dequantize(
    shape: Ints,
    strides: Ints,
    dtype: torch.dtype,
    scale: float,
    zero_point: int,
    out_dtype: torch.dtype,
) -> tuple[_C.Call, Ints]:
    """As ``cvperf.ops.dequantize`` with one scale and zero point; reads the tensor."""
    check_dense("the tensor", shape, strides)
    byte = _byte("dequantize", dtype)
    float_ = _float("dequantize", out_dtype)
    return _C.DequantizeCall(byte, math.prod(shape), scale, zero_point, float_), shape


def _broadcast(a: Ints, b: Ints) -> Ints:
    dims = max(len(a), len(b))
    wide = [(*[1] * (dims - len(shape)), *shape) for shape in (a, b)]
    if any(one != other and 1 not in (one, other) for one, other in zip(*wide, strict=True)):
        raise ArgumentError(f"shapes {list(a)} and {list(b)} do not broadcast")
    return tuple(other if one == 1 else one for one, other in zip(*wide, strict=True))


def _float(name: str, dtype: torch.dtype) -> _C.DType:
    return _dtype(name, dtype, _FLOATS)


def _byte(name: str, dtype: torch.dtype) -> _C.DType:
    return _dtype(name, dtype, _BYTES)


def _dtype(name: str, dtype: torch.dtype, allowed: tuple[torch.dtype, ...]) -> _C.DType:
    if dtype not in allowed:
        names = ", ".join(str(each).removeprefix("torch.") for each in allowed)
        raise UnsupportedError(f"{name} has dtype {dtype}, expected one of {names}. Cast it")
    return DTYPES[dtype]


def _named(argument: str, name: str, members: dict[str, _Member]) -> _Member:
    if name not in members:
        raise UnsupportedError(f"{argument} must be one of {', '.join(members)}; got {name!r}")
    return members[name]
