"""What exporters compute on shapes, on Python numbers instead of tensors.

Every element is a number or a node of the graph that makes one, so ``Concat`` and ``Gather`` cost
nothing when the model runs, and ``Add`` is Python's. A handler answers ``NotImplemented`` where the
result is no longer a scalar or a vector; the numbers then become a tensor.
"""

from __future__ import annotations

import math
import operator as python
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from cvperf.onnx.dtypes import torch_dtype
from cvperf.onnx.node import Node
from cvperf.onnx.registry import on_numbers
from cvperf.onnx.values import Constant, Numbers, Value, plain

LONGEST = 64
"""Vectors that are longer are no shapes."""

SYMBOLS = (torch.SymInt, torch.SymFloat)


def as_numbers(value: Value | None) -> Numbers | None:
    """A value as numbers, None where it is more than a short vector or known only to the graph."""
    if isinstance(value, Numbers):
        return value
    if isinstance(value, Constant) and value.rank <= 1 and value.tensor.numel() <= LONGEST:
        items = tuple(value.tensor.flatten().tolist())
        return Numbers(items, value.dtype, scalar=value.rank == 0)
    return None


def _inputs(node: Node) -> list[Numbers]:
    values = [as_numbers(value) for value in node.inputs if value is not None]
    return [value for value in values if value is not None]


def decimal(number: float) -> float:
    """The shortest decimal of a float32: 0.7 rather than the 0.69999999 that its bits say.

    What was float32 arithmetic is Python's here, where 10 * 0.69999999 has the floor 6.
    """
    return float(str(np.float32(number)))


def _single(number: Any) -> Any:
    """Round to float32, as ONNX computes: a floor behind it must come out the same."""
    return torch.tensor(number, dtype=torch.float32).item() if type(number) is float else number


def _operands(x: Any, y: Any) -> tuple[Any, Any]:
    """Results with symbols cannot be rounded; decimals give what rounding would, but for a hair."""
    if isinstance(x, SYMBOLS) or isinstance(y, SYMBOLS):
        x, y = (decimal(number) if type(number) is float else number for number in (x, y))
    return x, y


def _add(x: Any, y: Any) -> Any:
    x, y = _operands(x, y)
    return _single(x + y)


def _sub(x: Any, y: Any) -> Any:
    x, y = _operands(x, y)
    return _single(x - y)


def _mul(x: Any, y: Any) -> Any:
    x, y = _operands(x, y)
    return _single(x * y)


def _div(x: Any, y: Any) -> Any:
    """Integers are divided towards zero."""
    x, y = _operands(x, y)
    if isinstance(x, (float, torch.SymFloat)) or isinstance(y, (float, torch.SymFloat)):
        return _single(x / y)
    same_sign = x >= 0 if y > 0 else x <= 0
    return x // y if same_sign else -(-x // y)


def _pow(x: Any, y: Any) -> Any:
    return type(x)(x**y) if type(x) is int else _single(x**y)


def _min(x: Any, y: Any) -> Any:
    return torch.sym_min(x, y)


def _max(x: Any, y: Any) -> Any:
    return torch.sym_max(x, y)


def _sqrt(x: Any) -> Any:
    return _single(math.sqrt(x))


def _floor(x: Any) -> Any:
    return torch.sym_float(math.floor(x))


def _ceil(x: Any) -> Any:
    return torch.sym_float(math.ceil(x))


def _round(x: Any) -> Any:
    return torch.sym_float(round(x))


def _choose(condition: Any, x: Any, y: Any) -> Any:
    return x if condition else y


def _to_integer(x: Any) -> Any:
    return int(x) if isinstance(x, (bool, torch.SymBool)) else torch.sym_int(x)


def _to_float(x: Any) -> Any:
    return _single(torch.sym_float(x))


def _to_bool(x: Any) -> Any:
    return x != 0


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "Mod": python.mod,
    "Pow": _pow,
    "Min": _min,
    "Max": _max,
}
COMPARISON: dict[str, Callable[[Any, Any], Any]] = {
    "Equal": python.eq,
    "Less": python.lt,
    "LessOrEqual": python.le,
    "Greater": python.gt,
    "GreaterOrEqual": python.ge,
    "And": python.and_,
    "Or": python.or_,
}
UNARY: dict[str, Callable[[Any], Any]] = {
    "Neg": python.neg,
    "Abs": abs,
    "Floor": _floor,
    "Ceil": _ceil,
    "Round": _round,
    "Sqrt": _sqrt,
    "Identity": lambda x: x,
    "Not": python.not_,
}


def _elementwise(node: Node, function: Callable[..., Any], operands: Sequence[Numbers]) -> Any:
    """The items of a function of each element, where scalars and vectors of one are repeated."""
    length = max((len(operand.items) for operand in operands), default=0)
    if any(len(operand.items) not in (1, length) for operand in operands):
        return NotImplemented
    repeated = [
        operand.items * (1 if len(operand.items) == length else length) for operand in operands
    ]
    return tuple(node.builder.call(function, *items) for items in zip(*repeated, strict=True))


def _result(node: Node, function: Callable[..., Any], dtype: torch.dtype | None = None) -> Any:
    operands = _inputs(node)
    items = _elementwise(node, function, operands)
    if items is NotImplemented:
        return NotImplemented
    scalar = all(operand.scalar for operand in operands)
    return Numbers(items, dtype or operands[-1].dtype, scalar)


@on_numbers(*BINARY)
def binary(node: Node) -> Any:
    if node.attribute("fmod", 0):
        return NotImplemented
    if len(node.inputs) != 2:  # Min and Max take any number
        return NotImplemented
    return _result(node, BINARY[node.operator], _inputs(node)[0].dtype)


@on_numbers(*COMPARISON)
def comparison(node: Node) -> Any:
    return _result(node, COMPARISON[node.operator], torch.bool)


@on_numbers(*UNARY)
def unary(node: Node) -> Any:
    return _result(node, UNARY[node.operator])


@on_numbers("Where")
def where(node: Node) -> Any:
    return _result(node, _choose)


@on_numbers("Cast")
def cast(node: Node) -> Any:
    dtype = torch_dtype(node, node.attribute("to"))
    if dtype is torch.bool:
        return _result(node, _to_bool, dtype)
    return _result(node, _to_float if dtype.is_floating_point else _to_integer, dtype)


@on_numbers("Concat")
def concat(node: Node) -> Any:
    operands = _inputs(node)
    if any(operand.scalar for operand in operands):
        return NotImplemented
    return Numbers(tuple(item for operand in operands for item in operand.items), operands[0].dtype)


@on_numbers("Gather")
def gather(node: Node) -> Any:
    data, indices = _inputs(node)
    if data.scalar or not plain(indices.items):
        return NotImplemented
    items = tuple(data.items[int(index)] for index in indices.items)  # type: ignore[arg-type]
    return Numbers(items, data.dtype, indices.scalar)


@on_numbers("Slice")
def slice_(node: Node) -> Any:
    data = as_numbers(node.value(0))
    bounds = [node.setting(*where) for where in (("starts", 1), ("ends", 2), ("steps", 4))]
    if data is None or data.scalar:
        return NotImplemented
    start, end, step = (bound[0] if bound else None for bound in bounds)
    return Numbers(data.items[start:end:step], data.dtype)


@on_numbers("Unsqueeze")
def unsqueeze(node: Node) -> Any:
    data = as_numbers(node.value(0))
    axes = node.setting("axes", 1)
    if data is None or not data.scalar or len(axes) != 1:
        return NotImplemented
    return Numbers(data.items, data.dtype)


@on_numbers("Squeeze")
def squeeze(node: Node) -> Any:
    data = as_numbers(node.value(0))
    if data is None or data.scalar or len(data.items) != 1:
        return NotImplemented
    return Numbers(data.items, data.dtype, scalar=True)


@on_numbers("Reshape")
def reshape(node: Node) -> Any:
    data, shape = as_numbers(node.value(0)), node.numbers(1)
    if data is None or not plain(shape):
        return NotImplemented
    if shape in ((-1,), (len(data.items),)):
        return Numbers(data.items, data.dtype)
    return Numbers(data.items, data.dtype, scalar=True) if shape == () else NotImplemented


@on_numbers("Split")
def split(node: Node) -> Any:
    data = as_numbers(node.value(0))
    if data is None or data.scalar:
        return NotImplemented
    count = len(node.output_names)
    lengths = node.setting("split", 1) or [-(-len(data.items) // count)] * count
    ends = [sum(lengths[: index + 1]) for index in range(count)]
    return [
        Numbers(data.items[end - length : end], data.dtype)
        for length, end in zip(lengths, ends, strict=True)
    ]


@on_numbers("ReduceProd", "ReduceSum", "ReduceMin", "ReduceMax")
def reduce(node: Node) -> Any:
    data = as_numbers(node.value(0))
    functions = {"ReduceProd": _mul, "ReduceSum": _add, "ReduceMin": _min, "ReduceMax": _max}
    if data is None or data.scalar or not data.items:
        return NotImplemented
    total = data.items[0]
    for item in data.items[1:]:
        total = node.builder.call(functions[node.operator], total, item)
    return Numbers((total,), data.dtype, scalar=not node.attribute("keepdims", 1))


@on_numbers("Shape", "Size")
def shape(node: Node) -> Any:
    data = _inputs(node)[0]
    if node.operator == "Size":
        return Numbers((len(data.items),), scalar=True)
    return Numbers(() if data.scalar else (len(data.items),))
