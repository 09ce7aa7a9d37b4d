"""What exporters compute on shapes, on Python numbers instead of tensors.

Every element is a number or a node of the graph that makes one, so ``Concat`` and ``Gather`` cost
nothing when the model runs, and ``Add`` is Python's. A handler answers ``NotImplemented`` where it
cannot say the result in numbers; they then become a tensor.
"""

from __future__ import annotations

import math
import operator as python
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from cvperf.onnx.dtypes import torch_dtype
from cvperf.onnx.node import Node
from cvperf.onnx.registry import on_numbers
from cvperf.onnx.values import Constant, Numbers, Value, plain

MOST = 64
"""Tensors of more elements are no shapes."""

SYMBOLS = (torch.SymInt, torch.SymFloat)


def as_numbers(value: Value | None) -> Numbers | None:
    """A value as numbers, None where it is more than a few or known only to the graph."""
    if isinstance(value, Numbers):
        return value
    if isinstance(value, Constant) and value.tensor.numel() <= MOST:
        items = tuple(value.tensor.flatten().tolist())
        return Numbers(items, tuple(value.tensor.shape), value.dtype)
    return None


def _array(numbers: Numbers) -> Any:
    """Numbers as a NumPy array of objects, which has the moves of tensors."""
    array = np.empty(len(numbers.items), dtype=object)
    array[:] = numbers.items
    return array.reshape(numbers.shape)


def _numbers(array: Any, dtype: torch.dtype) -> Numbers:
    array = np.asarray(array, dtype=object)
    return Numbers(tuple(array.flatten()), array.shape, dtype)


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
    return float(np.float32(number)) if type(number) is float else number


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


def _equal(x: Any, y: Any) -> Any:
    """A SymBool would differ from every bool."""
    both = isinstance(x, torch.SymBool) or isinstance(y, torch.SymBool)
    return bool(x) == bool(y) if both else x == y


def _choose(condition: Any, x: Any, y: Any) -> Any:
    return x if condition else y


def _to_integer(x: Any) -> Any:
    return int(x) if isinstance(x, (bool, torch.SymBool)) else torch.sym_int(x)


def _to_float(x: Any) -> Any:
    return _single(torch.sym_float(x))


def _to_bool(x: Any) -> Any:
    """A SymBool has no comparison with numbers; it would differ from all of them."""
    return x if isinstance(x, (bool, torch.SymBool)) else x != 0


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
    "Equal": _equal,
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


def _result(node: Node, function: Callable[..., Any], dtype: torch.dtype | None = None) -> Numbers:
    """A function of each element, with broadcasting."""
    operands = _inputs(node)
    arrays = np.broadcast_arrays(*(_array(operand) for operand in operands))
    items = zip(*(array.flatten() for array in arrays), strict=True)
    results = tuple(node.builder.call(function, *numbers) for numbers in items)
    return Numbers(results, arrays[0].shape, dtype or operands[-1].dtype)


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
    arrays = [_array(operand) for operand in operands]
    return _numbers(np.concatenate(arrays, node.attribute("axis", 0)), operands[0].dtype)


@on_numbers("Gather")
def gather(node: Node) -> Any:
    data, indices = _inputs(node)
    if not plain(indices.items):
        return NotImplemented
    places = np.array(indices.items, dtype=np.int64).reshape(indices.shape)
    return _numbers(np.take(_array(data), places, node.attribute("axis", 0)), data.dtype)


@on_numbers("Slice")
def slice_(node: Node) -> Any:
    data = _inputs(node)[0]
    starts, ends = node.setting("starts", 1), node.setting("ends", 2)
    axes = node.setting("axes", 3, range(len(starts)))
    steps = node.setting("steps", 4, [1] * len(starts))
    index = [slice(None)] * data.rank
    for axis, *bounds in zip(axes, starts, ends, steps, strict=True):
        index[axis] = slice(*bounds)
    return _numbers(_array(data)[tuple(index)], data.dtype)


@on_numbers("Transpose")
def transpose(node: Node) -> Any:
    data = _inputs(node)[0]
    return _numbers(np.transpose(_array(data), node.attribute("perm", None)), data.dtype)


@on_numbers("Unsqueeze")
def unsqueeze(node: Node) -> Any:
    data = _inputs(node)[0]
    return _numbers(np.expand_dims(_array(data), tuple(node.setting("axes", 1))), data.dtype)


@on_numbers("Squeeze")
def squeeze(node: Node) -> Any:
    data, axes = _inputs(node)[0], node.setting("axes", 1)
    return _numbers(np.squeeze(_array(data), tuple(axes) if axes else None), data.dtype)


@on_numbers("Reshape")
def reshape(node: Node) -> Any:
    data, shape = _inputs(node)[0], node.numbers(1)
    if not plain(shape) or 0 in shape:  # type: ignore[operator]
        return NotImplemented
    return _numbers(_array(data).reshape(shape), data.dtype)


@on_numbers("Split")
def split(node: Node) -> Any:
    data, count, axis = _inputs(node)[0], len(node.output_names), node.attribute("axis", 0)
    lengths = node.setting("split", 1) or [-(-data.shape[axis] // count)] * count
    parts = np.split(_array(data), np.cumsum(lengths)[:-1], axis)
    return [_numbers(part, data.dtype) for part in parts]


@on_numbers("ReduceProd", "ReduceSum", "ReduceMin", "ReduceMax")
def reduce(node: Node) -> Any:
    data = _inputs(node)[0]
    functions = {"ReduceProd": _mul, "ReduceSum": _add, "ReduceMin": _min, "ReduceMax": _max}
    if data.rank != 1 or not data.items:
        return NotImplemented
    total = data.items[0]
    for item in data.items[1:]:
        total = node.builder.call(functions[node.operator], total, item)
    return Numbers((total,), (1,) if node.attribute("keepdims", 1) else (), data.dtype)


@on_numbers("Shape", "Size")
def shape(node: Node) -> Any:
    data = _inputs(node)[0]
    if node.operator == "Size":
        return Numbers((len(data.items),), ())
    sizes = data.shape[node.attribute("start", 0) : node.attribute("end", None)]
    return Numbers(sizes, (len(sizes),))
