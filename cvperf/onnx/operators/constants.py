"""Operators that make tensors, and those that leave them alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cvperf.onnx.dtypes import torch_dtype
from cvperf.onnx.node import Node
from cvperf.onnx.registry import operator
from cvperf.onnx.values import Constant, Numbers, Value, plain


@operator("Constant")
def constant(node: Node) -> Value:
    if "value" in node.attributes:
        return Constant(node.attribute("value"))
    for name, dtype in (("value_float", torch.float32), ("value_int", torch.int64)):
        if name in node.attributes:
            return Constant(torch.tensor(node.attribute(name), dtype=dtype))
        if f"{name}s" in node.attributes:
            return Constant(torch.tensor(list(node.attribute(f"{name}s")), dtype=dtype))
    raise node.unsupported("its value is a string or a sparse tensor")


@operator("ConstantOfShape")
def constant_of_shape(node: Node) -> Value:
    value = node.attribute("value", torch.zeros(1))
    shape = node.numbers(0)
    return node.builder.created(
        torch.full, shape, value.item(), dtype=value.dtype, rank=length_of(shape)
    )


@operator("Range")
def range_(node: Node) -> Value:
    start, limit, delta = (node.number(index) for index in range(3))
    dtype = node.value(0).dtype
    if plain((start, limit, delta)) and dtype is torch.int64:
        values = torch.arange(start, limit, delta, dtype=dtype)  # type: ignore[arg-type]
        return Constant(values)
    return node.builder.created(torch.arange, start, limit, delta, dtype=dtype, rank=1)


@operator("Shape")
def shape(node: Node) -> Value:
    data = node.tensor(0)
    if data.rank is None:
        if node.attribute("start", 0) or "end" in node.attributes:
            raise node.unsupported("it takes a part of the shape of a tensor of unknown rank")
        return node.emit(shape_tensor, data, rank=1)
    axes = range(data.rank)[node.attribute("start", 0) : node.attribute("end", None)]
    sizes = tuple(node.builder.size(data, axis) for axis in axes)
    return Numbers(sizes, (len(sizes),))


@operator("Size")
def size(node: Node) -> Value:
    return Numbers((node.builder.call(elements, node.tensor(0)),), ())


@operator("Identity")
def identity(node: Node) -> Value:
    return node.value(0)


@operator("Dropout")
def dropout(node: Node) -> Value | Sequence[Value]:
    """Inference only: nothing is dropped."""
    if node.has(2) and any(node.known(2, "training_mode")):
        raise node.unsupported("it is in training mode; export the model in evaluation mode")
    data = node.tensor(0)
    if not node.wants(1):
        return data
    return [data, node.emit(torch.ones_like, data, dtype=torch.bool, rank=data.rank)]


@operator("EyeLike")
def eye_like(node: Node) -> Value:
    data = node.tensor(0)
    number = node.attribute("dtype", None)
    dtype = data.dtype if number is None else torch_dtype(node, number)
    return node.emit(eye, data, node.attribute("k", 0), dtype, rank=2)


def length_of(numbers: object) -> int | None:
    """The number of dimensions that a shape has, None where it is known only to the graph."""
    return len(numbers) if isinstance(numbers, tuple) else None


def shape_tensor(tensor: torch.Tensor) -> torch.Tensor:
    return torch.tensor(list(tensor.shape), device=tensor.device)


def elements(tensor: torch.Tensor) -> int:
    return tensor.numel()


def eye(like: torch.Tensor, diagonal: int, dtype: torch.dtype | None) -> torch.Tensor:
    """Ones on a diagonal of a matrix of the same size."""
    rows = torch.arange(like.shape[0], device=like.device)[:, None]
    columns = torch.arange(like.shape[1], device=like.device)
    return (columns == rows + diagonal).to(dtype or like.dtype)
