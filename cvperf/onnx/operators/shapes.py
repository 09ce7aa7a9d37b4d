"""Operators that move elements about: reshape, transpose, join, cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from cvperf.onnx.node import Node
from cvperf.onnx.operators.constants import length_of
from cvperf.onnx.registry import operator
from cvperf.onnx.values import TensorValue, Traced, Value, plain


@operator("Reshape")
def reshape(node: Node) -> Value:
    """A 0 keeps the size of that axis, unless ``allowzero``."""
    data, shape = node.tensor(0), node.numbers(1)
    if isinstance(shape, fx.Node):
        keep = not node.attribute("allowzero", 0)
        return node.emit(reshaped, data, shape, keep, rank=_length(node.value(1)))
    if not node.attribute("allowzero", 0):
        shape = tuple(
            node.builder.size(data, axis) if type(size) is int and size == 0 else size
            for axis, size in enumerate(shape)
        )
    return node.emit(torch.reshape, data, shape, rank=len(shape))


def _length(vector: Value) -> int | None:
    """The number of elements of a vector that only the graph knows."""
    return vector.sizes[0] if isinstance(vector, Traced) and vector.sizes else None


@operator("Flatten")
def flatten(node: Node) -> Value:
    data, axis = node.tensor(0), node.attribute("axis", 1)
    if axis == 1 and data.rank is not None and data.rank >= 2:
        return node.emit(torch.flatten, data, 1, rank=2)
    return node.emit(flattened, data, axis, rank=2)


@operator("Squeeze")
def squeeze(node: Node) -> Value:
    data, axes = node.tensor(0), node.setting("axes", 1)
    if axes is None:
        return node.emit(torch.squeeze, data)
    rank = None if data.rank is None else data.rank - len(axes)
    return node.emit(torch.squeeze, data, tuple(axes), rank=rank)


@operator("Unsqueeze")
def unsqueeze(node: Node) -> Value:
    """Axes count in the result."""
    data: TensorValue = node.tensor(0)
    axes = node.setting("axes", 1)
    if data.rank is None:
        return node.emit(unsqueezed, data, tuple(axes))
    rank = data.rank + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        assert data.rank is not None
        data = node.emit(torch.unsqueeze, data, axis, rank=data.rank + 1)
    return data


@operator("Expand")
def expand(node: Node) -> Value:
    data, shape = node.tensor(0), node.numbers(1)
    length = length_of(shape)
    rank = None if data.rank is None or length is None else max(data.rank, length)
    return node.emit(expanded, data, shape, rank=rank)


@operator("Tile")
def tile(node: Node) -> Value:
    data, repeats = node.tensor(0), node.numbers(1)
    return node.emit(torch.tile, data, repeats, rank=length_of(repeats) or data.rank)


@operator("Transpose")
def transpose(node: Node) -> Value:
    data, order = node.tensor(0), node.attribute("perm", None)
    if order is None and data.rank is None:
        return node.emit(reversed_axes, data)
    order = tuple(order if order is not None else reversed(range(data.rank or 0)))
    return node.emit(torch.permute, data, order, rank=len(order))


@operator("Concat")
def concat(node: Node) -> Value:
    tensors = node.tensors()
    ranks = [tensor.rank for tensor in tensors if tensor.rank is not None]
    rank = ranks[0] if ranks else None
    return node.emit(torch.cat, tensors, node.attribute("axis", 1), rank=rank)


@operator("Split")
def split(node: Node) -> Sequence[Value]:
    """Lengths are an attribute before opset 13, an input from then on; without them, even parts."""
    data, axis = node.tensor(0), node.attribute("axis", 0)
    count = len(node.output_names)
    lengths: Any = node.attributes.get("split") or (node.numbers(1) if node.has(1) else None)
    if lengths is None:
        return node.builder.tensors(count, torch.chunk, data, count, axis, rank=data.rank)
    lengths = lengths if isinstance(lengths, fx.Node) else list(lengths)
    return node.builder.tensors(count, torch.split, data, lengths, axis, rank=data.rank)


@operator("Slice")
def slice_(node: Node) -> Value:
    """Bounds are attributes before opset 10, inputs from then on."""
    data = node.tensor(0)
    starts, ends = (_bounds(node, name, index) for name, index in (("starts", 1), ("ends", 2)))
    axes, steps = node.setting("axes", 3), node.setting("steps", 4)
    axes = tuple(axes) if axes is not None else None
    steps = tuple(steps) if steps is not None else None
    return node.emit(sliced, data, starts, ends, axes, steps, rank=data.rank)


def _bounds(node: Node, name: str, index: int) -> Any:
    return tuple(node.attribute(name)) if name in node.attributes else node.numbers(index)


@operator("DepthToSpace")
def depth_to_space(node: Node) -> Value:
    data, size = node.tensor(0), node.attribute("blocksize")
    if node.attribute("mode", "DCR") == "CRD":
        return node.emit(torch.pixel_shuffle, data, size, rank=4)
    return node.emit(depth_first, data, size, rank=4)


@operator("SpaceToDepth")
def space_to_depth(node: Node) -> Value:
    return node.emit(blocks_first, node.tensor(0), node.attribute("blocksize"), rank=4)


@operator("Trilu")
def triangle(node: Node) -> Value:
    data = node.tensor(0)
    diagonal = node.number(1) if node.has(1) else 0
    if not plain((diagonal,)):
        raise node.unsupported("its diagonal depends on the model's inputs; it must be constant")
    function = torch.triu if node.attribute("upper", 1) else torch.tril
    return node.emit(function, data, diagonal, rank=data.rank)


def reshaped(data: Tensor, shape: Sequence[int], keep: bool) -> Tensor:
    return data.reshape([data.shape[i] if keep and n == 0 else n for i, n in enumerate(shape)])


def flattened(data: Tensor, axis: int) -> Tensor:
    axis = axis + data.dim() if axis < 0 else axis
    return data.reshape(math.prod(data.shape[:axis]), math.prod(data.shape[axis:]))


def unsqueezed(data: Tensor, axes: Sequence[int]) -> Tensor:
    rank = data.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        data = data.unsqueeze(axis)
    return data


def expanded(data: Tensor, shape: Sequence[int]) -> Tensor:
    """Broadcasting goes both ways: a 1 in ``shape`` keeps the size of the tensor."""
    return data.expand(torch.broadcast_shapes(data.shape, tuple(shape)))


def reversed_axes(data: Tensor) -> Tensor:
    return data.permute(*reversed(range(data.dim())))


def sliced(
    data: Tensor,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None,
    steps: Sequence[int] | None,
) -> Tensor:
    """Bounds beyond the tensor are cut to it, as Python's are."""
    axes = axes if axes is not None else range(len(starts))
    steps = steps if steps is not None else [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis = axis % data.dim()
        if step > 0:
            data = data[(slice(None),) * axis + (slice(start, end, step),)]
        else:
            places = range(*slice(start, end, step).indices(data.shape[axis]))
            data = data.index_select(
                axis, torch.tensor(places, device=data.device, dtype=torch.int64)
            )
    return data


def depth_first(data: Tensor, size: int) -> Tensor:
    batch, channels, height, width = data.shape
    blocks = data.reshape(batch, size, size, channels // (size * size), height, width)
    moved = blocks.permute(0, 3, 4, 1, 5, 2)
    return moved.reshape(batch, channels // (size * size), height * size, width * size)


def blocks_first(data: Tensor, size: int) -> Tensor:
    batch, channels, height, width = data.shape
    blocks = data.reshape(batch, channels, height // size, size, width // size, size)
    moved = blocks.permute(0, 3, 5, 1, 2, 4)
    return moved.reshape(batch, channels * size * size, height // size, width // size)
