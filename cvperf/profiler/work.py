"""Operations and bytes of ops that have no shape: products, and single passes over tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor

from cvperf.bench.problems.base import Shape

_PRODUCTS = {"aten::linear": (0, 1), "aten::mm": (0, 1), "aten::addmm": (1, 2), "aten::bmm": (0, 1)}
"""Op -> places of its two matrices; the second is transposed in ``linear``."""

_ONCE = {
    *("aten::relu", "aten::relu_", "aten::silu", "aten::silu_", "aten::hardswish"),
    *("aten::hardswish_", "aten::hardtanh", "aten::hardtanh_", "aten::sigmoid", "aten::sigmoid_"),
    *("aten::gelu", "aten::leaky_relu", "aten::leaky_relu_", "aten::add", "aten::add_"),
    *("aten::sub", "aten::sub_", "aten::mul", "aten::mul_", "aten::div", "aten::div_"),
    *("aten::batch_norm", "aten::layer_norm", "aten::softmax", "aten::exp", "aten::clamp"),
    *("aten::clone", "aten::copy_", "aten::contiguous", "aten::dropout"),
}
"""Ops that read their tensors once and write one output as large as the largest of them."""


@dataclass(frozen=True)
class Work:
    """What a call must at least do."""

    flop: int
    bytes: int
    dtype: str


def of_shapes(shapes: Sequence[Shape]) -> list[Work]:
    """One entry a shape: a convolution's two gradients are two passes over the data."""
    return [Work(shape.flop, shape.bytes, shape.dtype) for shape in shapes]


def of_call(op: str, arguments: Sequence[Any]) -> list[Work]:
    """The work of an op that has no shape; empty where it is not known."""
    tensors = [value for value in arguments if isinstance(value, Tensor)]
    if op in _PRODUCTS:
        first, second = (arguments[place] for place in _PRODUCTS[op])
        columns = second.shape[0] if op == "aten::linear" else second.shape[-1]
        outputs = prod(first.shape[:-1]) * columns
        moved = (sum(_elements(tensor) for tensor in tensors) + outputs) * first.itemsize
        return [Work(2 * outputs * first.shape[-1], moved, _name(first))]
    if op in _ONCE and tensors:
        largest = max(tensors, key=_elements)
        moved = sum(_elements(tensor) * tensor.itemsize for tensor in tensors)
        # An op that copies or works in place reads and writes; its output is not listed.
        moved += 0 if op == "aten::copy_" else _elements(largest) * largest.itemsize
        return [Work(0, moved, _name(largest))]
    return []


def _elements(tensor: Tensor) -> int:
    """Elements in memory: an expanded dimension is read from cache."""
    return prod(n for n, s in zip(tensor.shape, tensor.stride(), strict=True) if s or n == 0)


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
