"""Arithmetic, comparison and activations: what works on each element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvperf.onnx.dtypes import torch_dtype
from cvperf.onnx.node import Node, floating, rank_of, scalar
from cvperf.onnx.registry import operator
from cvperf.onnx.values import Constant, TensorValue, Value

UNARY: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": F.hardswish,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Mish": F.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": F.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}
BINARY: dict[str, Callable[..., Any]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Equal": torch.eq,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
}
VARIADIC: dict[str, Callable[..., Any]] = {
    "Min": torch.minimum,
    "Max": torch.maximum,
    "Sum": torch.add,
    "Mean": torch.add,
}
# These take no Python number.
TENSORS_ONLY = {"And", "Or", "Xor"}


@operator(*UNARY)
def unary(node: Node) -> Value:
    data = node.tensor(0)
    return node.emit(UNARY[node.operator], data, rank=data.rank)


@operator(*BINARY)
def binary(node: Node) -> Value:
    left, right = node.tensor(0), node.tensor(1)
    function, rank = BINARY[node.operator], rank_of(left, right)
    if node.operator in ("Add", "Mul") and isinstance(left, Constant):
        left, right = right, left
    if node.operator in TENSORS_ONLY:
        return node.emit(function, left, right, rank=rank)
    other = scalar(right, left)
    if node.operator == "Mul" and floating(left) and type(other) is float and other == 1.0:
        return left  # some exporters multiply by one
    return node.emit(function, left, other, rank=rank)


@operator("Div")
def divide(node: Node) -> Value:
    left, right = node.tensor(0), node.tensor(1)
    rank = rank_of(left, right)
    if floating(left):
        return node.emit(torch.div, left, scalar(right, left), rank=rank)
    return node.emit(quotient, left, right, rank=rank)


@operator("Mod")
def modulo(node: Node) -> Value:
    left, right = node.tensor(0), node.tensor(1)
    function: Callable[..., Any] = torch.fmod if node.attribute("fmod", 0) else torch.remainder
    return node.emit(function, left, right, rank=rank_of(left, right))


@operator("Pow")
def power(node: Node) -> Value:
    base, exponent = node.tensor(0), node.tensor(1)
    rank = rank_of(base, exponent)
    if floating(base) and isinstance(exponent, Constant):
        return node.emit(torch.pow, base, scalar(exponent, base), rank=rank)
    return node.emit(powers, base, exponent, rank=rank)


@operator("BitShift")
def shift(node: Node) -> Value:
    left, right = node.tensor(0), node.tensor(1)
    to_left = node.attribute("direction") == "LEFT"
    function = torch.bitwise_left_shift if to_left else torch.bitwise_right_shift
    return node.emit(function, left, right, rank=rank_of(left, right))


@operator("Min", "Max", "Sum", "Mean")
def variadic(node: Node) -> Value:
    function = VARIADIC[node.operator]
    total, *others = node.tensors()
    for other in others:
        rank = rank_of(total, other)
        total = node.emit(function, total, other, rank=rank)
    if node.operator == "Mean":
        return node.emit(torch.div, total, 1 + len(others), rank=total.rank)
    return total


@operator("Where")
def where(node: Node) -> Value:
    condition, left, right = (node.tensor(index) for index in range(3))
    return node.emit(torch.where, condition, left, right, rank=rank_of(condition, left, right))


@operator("IsInf")
def is_infinite(node: Node) -> Value:
    data = node.tensor(0)
    positive, negative = node.attribute("detect_positive", 1), node.attribute("detect_negative", 1)
    return node.emit(infinite, data, bool(positive), bool(negative), rank=data.rank)


@operator("Cast")
def cast(node: Node) -> Value:
    data = node.tensor(0)
    dtype = torch_dtype(node, node.attribute("to"))
    if data.dtype is dtype:
        return data
    return node.emit(converted, data, dtype, rank=data.rank)


@operator("CastLike")
def cast_like(node: Node) -> Value:
    data, target = node.tensor(0), node.tensor(1)
    return node.emit(same_dtype, data, target, rank=data.rank)


@operator("Clip")
def clip(node: Node) -> Value:
    """Bounds are attributes before opset 11, inputs from then on."""
    data = node.tensor(0)
    low, high = (_bound(node, name, index) for name, index in (("min", 1), ("max", 2)))
    if low is None and high is None:
        return data
    if floating(data) and (low, high) == (0.0, 6.0):
        return node.emit(F.relu6, data, rank=data.rank)
    if floating(data) and (low, high) == (0.0, None):
        return node.emit(F.relu, data, rank=data.rank)
    if isinstance(low, TensorValue) or isinstance(high, TensorValue):
        return node.emit(clamp, data, low, high, rank=data.rank)
    return node.emit(torch.clamp, data, low, high, rank=data.rank)


def _bound(node: Node, name: str, index: int) -> Any:
    if name in node.attributes:
        return node.attribute(name)
    bound = node.optional(index)
    return bound.tensor.item() if isinstance(bound, Constant) else bound


@operator("LeakyRelu")
def leaky_relu(node: Node) -> Value:
    data = node.tensor(0)
    return node.emit(F.leaky_relu, data, node.attribute("alpha", 0.01), rank=data.rank)


@operator("PRelu")
def prelu(node: Node) -> Value:
    data, slope = node.tensor(0), node.weight(1)
    if isinstance(slope, Constant) and _one_a_channel(slope, data):
        flat = node.emit(torch.flatten, slope)
        return node.emit(F.prelu, data, _kept(flat, slope), rank=data.rank)
    return node.emit(sloped, data, slope, rank=data.rank)


def _one_a_channel(slope: Constant, data: TensorValue) -> bool:
    """Whether a slope broadcasts along axis 1 only, or is one number."""
    if slope.tensor.numel() == 1:
        return True
    if data.rank is None or data.rank < 2:
        return False
    shape = (1,) * (data.rank - slope.rank) + tuple(slope.tensor.shape)
    return len(shape) == data.rank and all(size == 1 for i, size in enumerate(shape) if i != 1)


def _kept(flat: TensorValue, weight: Constant) -> TensorValue:
    """A weight in another shape is still that parameter."""
    if isinstance(flat, Constant):
        flat.name, flat.trainable = weight.name, weight.trainable
    return flat


@operator("Elu")
def elu(node: Node) -> Value:
    data = node.tensor(0)
    return node.emit(F.elu, data, node.attribute("alpha", 1.0), rank=data.rank)


@operator("Celu")
def celu(node: Node) -> Value:
    data = node.tensor(0)
    return node.emit(F.celu, data, node.attribute("alpha", 1.0), rank=data.rank)


@operator("Selu")
def selu(node: Node) -> Value:
    data = node.tensor(0)
    alpha = node.attribute("alpha", 1.6732632423543772)
    gamma = node.attribute("gamma", 1.0507009873554805)
    inner = node.emit(F.elu, data, alpha, rank=data.rank)
    return node.emit(torch.mul, inner, gamma, rank=data.rank)


@operator("ThresholdedRelu")
def thresholded_relu(node: Node) -> Value:
    data = node.tensor(0)
    return node.emit(F.threshold, data, node.attribute("alpha", 1.0), 0.0, rank=data.rank)


@operator("Shrink")
def shrink(node: Node) -> Value:
    data = node.tensor(0)
    bias, limit = node.attribute("bias", 0.0), node.attribute("lambd", 0.5)
    return node.emit(shrunk, data, bias, limit, rank=data.rank)


@operator("HardSigmoid")
def hard_sigmoid(node: Node) -> Value:
    data = node.tensor(0)
    alpha, beta = node.attribute("alpha", 0.2), node.attribute("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return node.emit(F.hardsigmoid, data, rank=data.rank)
    return node.emit(hard_sigmoid_of, data, alpha, beta, rank=data.rank)


@operator("Gelu")
def gelu(node: Node) -> Value:
    data = node.tensor(0)
    how = node.attribute("approximate", "none")
    return node.emit(F.gelu, data, approximate=how, rank=data.rank)


@operator("Swish")
def swish(node: Node) -> Value:
    data = node.tensor(0)
    alpha = node.attribute("alpha", 1.0)
    if alpha == 1.0:
        return node.emit(F.silu, data, rank=data.rank)
    return node.emit(swish_of, data, alpha, rank=data.rank)


@operator("Softmax", "LogSoftmax", since=1)
def softmax_of_matrix(node: Node) -> Value:
    """Before opset 13 the tensor is a matrix whose rows are all axes from ``axis`` on."""
    data = node.tensor(0)
    axis = node.attribute("axis", 1)
    if axis == -1 or (data.rank is not None and axis == data.rank - 1):
        return _softmax(node, data, -1)
    function = softmax_of_rows if node.operator == "Softmax" else log_softmax_of_rows
    return node.emit(function, data, axis, rank=data.rank)


@operator("Softmax", "LogSoftmax", since=13)
def softmax(node: Node) -> Value:
    return _softmax(node, node.tensor(0), node.attribute("axis", -1))


def _softmax(node: Node, data: TensorValue, axis: int) -> Value:
    function = torch.softmax if node.operator == "Softmax" else torch.log_softmax
    return node.emit(function, data, axis, rank=data.rank)


@operator("Hardmax", since=1)
def hardmax_of_matrix(node: Node) -> Value:
    data = node.tensor(0)
    return node.emit(hard_maximum_of_rows, data, node.attribute("axis", 1), rank=data.rank)


@operator("Hardmax", since=13)
def hardmax(node: Node) -> Value:
    data = node.tensor(0)
    return node.emit(hard_maximum, data, node.attribute("axis", -1), rank=data.rank)


def converted(data: Tensor, dtype: torch.dtype) -> Tensor:
    return data.to(dtype)


def quotient(left: Tensor, right: Tensor) -> Tensor:
    """Integers are divided towards zero."""
    exact = left.is_floating_point()
    return torch.div(left, right, rounding_mode=None if exact else "trunc")


def powers(base: Tensor, exponent: Tensor) -> Tensor:
    """The dtype is that of the base."""
    return torch.pow(base, exponent).to(base.dtype)


def infinite(data: Tensor, positive: bool, negative: bool) -> Tensor:
    found = torch.isposinf(data) & positive
    return found | (torch.isneginf(data) & negative)


def same_dtype(data: Tensor, target: Tensor) -> Tensor:
    return data.to(target.dtype)


def clamp(data: Tensor, low: Any, high: Any) -> Tensor:
    """A bound is a number, a tensor of one element, or None."""
    if low is not None:
        data = torch.maximum(data, torch.as_tensor(low, dtype=data.dtype, device=data.device))
    if high is not None:
        data = torch.minimum(data, torch.as_tensor(high, dtype=data.dtype, device=data.device))
    return data


def sloped(data: Tensor, slope: Tensor) -> Tensor:
    return torch.where(data < 0, slope * data, data)


def shrunk(data: Tensor, bias: float, limit: float) -> Tensor:
    inner = torch.where(data > limit, data - bias, torch.zeros_like(data))
    return torch.where(data < -limit, data + bias, inner).to(data.dtype)


def hard_sigmoid_of(data: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.clamp(data * alpha + beta, 0.0, 1.0)


def swish_of(data: Tensor, alpha: float) -> Tensor:
    return data * torch.sigmoid(alpha * data)


def _over_rows(data: Tensor, function: Callable[[Tensor, int], Tensor], axis: int) -> Tensor:
    """A function of each row, where the axes from ``axis`` on together are a row."""
    axis %= max(data.dim(), 1)
    return function(data.flatten(axis) if axis < data.dim() else data, axis).reshape(data.shape)


def softmax_of_rows(data: Tensor, axis: int) -> Tensor:
    return _over_rows(data, torch.softmax, axis)


def log_softmax_of_rows(data: Tensor, axis: int) -> Tensor:
    return _over_rows(data, torch.log_softmax, axis)


def hard_maximum_of_rows(data: Tensor, axis: int) -> Tensor:
    return _over_rows(data, hard_maximum, axis)


def hard_maximum(data: Tensor, axis: int) -> Tensor:
    """One at the first of the largest, zero elsewhere."""
    largest = torch.argmax(data, axis, keepdim=True)
    return torch.zeros_like(data).scatter(axis, largest, 1)
