"""Operators that take or put elements by index."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from cvperf.onnx.node import Node
from cvperf.onnx.registry import operator
from cvperf.onnx.values import Constant, Value

# torch names reductions otherwise.
REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@operator("Gather")
def gather(node: Node) -> Value:
    data, indices, axis = node.tensor(0), node.tensor(1), node.attribute("axis", 0)
    if isinstance(indices, Constant) and indices.rank == 0:
        rank = None if data.rank is None else data.rank - 1
        return node.emit(torch.select, data, axis, int(indices.tensor), rank=rank)
    known = data.rank is not None and indices.rank is not None
    rank = data.rank + indices.rank - 1 if known else None  # type: ignore[operator]
    return node.emit(taken, data, indices, axis, rank=rank)


@operator("GatherElements")
def gather_elements(node: Node) -> Value:
    data, indices, axis = node.tensor(0), node.tensor(1), node.attribute("axis", 0)
    return node.emit(taken_elements, data, indices, axis, rank=data.rank)


@operator("GatherND")
def gather_nd(node: Node) -> Value:
    batch = node.attribute("batch_dims", 0)
    return node.emit(taken_slices, node.tensor(0), node.tensor(1), batch)


@operator("Scatter", "ScatterElements")
def scatter_elements(node: Node) -> Value:
    data, indices, updates = (node.tensor(index) for index in range(3))
    axis, how = node.attribute("axis", 0), node.attribute("reduction", "none")
    return node.emit(put_elements, data, indices, updates, axis, how, rank=data.rank)


@operator("ScatterND")
def scatter_nd(node: Node) -> Value:
    data, indices, updates = (node.tensor(index) for index in range(3))
    how = node.attribute("reduction", "none")
    return node.emit(put_slices, data, indices, updates, how, rank=data.rank)


@operator("OneHot")
def one_hot(node: Node) -> Value:
    indices, values = node.tensor(0), node.tensor(2)
    rank = None if indices.rank is None else indices.rank + 1
    axis = node.attribute("axis", -1)
    return node.emit(hot, indices, node.number(1), values, axis, rank=rank)


@operator("NonZero")
def non_zero(node: Node) -> Value:
    return node.emit(places, node.tensor(0), rank=2)


@operator("Compress")
def compress(node: Node) -> Value:
    data, axis = node.tensor(0), node.attribute("axis", None)
    return node.emit(chosen, data, node.tensor(1), axis, rank=1 if axis is None else data.rank)


@operator("ReverseSequence")
def reverse_sequence(node: Node) -> Value:
    data, lengths = node.tensor(0), node.tensor(1)
    axes = node.attribute("batch_axis", 1), node.attribute("time_axis", 0)
    return node.emit(reversed_starts, data, lengths, *axes, rank=data.rank)


def _from_start(indices: Tensor, size: int) -> Tensor:
    """Negative indices count from the end."""
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


def taken(data: Tensor, indices: Tensor, axis: int) -> Tensor:
    """The axis is replaced by the axes of ``indices``."""
    index: list[Any] = [slice(None)] * (axis % data.dim()) + [indices.long()]
    return data[tuple(index)]


def taken_elements(data: Tensor, indices: Tensor, axis: int) -> Tensor:
    return torch.gather(data, axis, _from_start(indices, data.shape[axis]))


def taken_slices(data: Tensor, indices: Tensor, batch: int) -> Tensor:
    """The last axis of ``indices`` is an index into the axes of data after the batch."""
    last = tuple(indices.long().unbind(-1))
    grids = []
    for axis in range(batch):
        shape = [1] * last[0].dim()
        shape[axis] = data.shape[axis]
        grids.append(torch.arange(data.shape[axis], device=data.device).reshape(shape))
    return data[tuple(grids) + last]


def put_elements(data: Tensor, indices: Tensor, updates: Tensor, axis: int, how: str) -> Tensor:
    indices = _from_start(indices, data.shape[axis])
    if how == "none":
        return data.scatter(axis, indices, updates)
    return data.scatter_reduce(axis, indices, updates, REDUCTIONS[how])


def put_slices(data: Tensor, indices: Tensor, updates: Tensor, how: str) -> Tensor:
    """The last axis of ``indices`` is an index into the first axes of data."""
    if how == "none":
        return data.index_put(tuple(indices.long().unbind(-1)), updates)
    depth = indices.shape[-1]
    flat = data.reshape(math.prod(data.shape[:depth]), -1)
    place = torch.zeros_like(indices[..., 0]).long()
    for axis in range(depth):
        place = place * data.shape[axis] + _from_start(indices[..., axis], data.shape[axis])
    rows = updates.reshape(-1, flat.shape[1])
    place = place.reshape(-1, 1).expand(rows.shape)
    return flat.scatter_reduce(0, place, rows, REDUCTIONS[how]).reshape(data.shape)


def hot(indices: Tensor, depth: Any, values: Tensor, axis: int) -> Tensor:
    """``values`` are what is cold and what is hot; indices out of range make no hot one."""
    axis = axis % (indices.dim() + 1)
    depth = int(depth)
    shape = [1] * (indices.dim() + 1)
    shape[axis] = depth
    classes = torch.arange(depth, device=indices.device).reshape(shape)
    wrapped = _from_start(indices, depth).unsqueeze(axis)
    return torch.where(classes == wrapped, values[1], values[0])


def places(data: Tensor) -> Tensor:
    return torch.nonzero(data).t()


def chosen(data: Tensor, condition: Tensor, axis: int | None) -> Tensor:
    """A condition that is shorter than the axis leaves out the rest."""
    data = data.flatten() if axis is None else data
    return data.index_select(axis or 0, torch.nonzero(condition.flatten()).flatten())


def reversed_starts(data: Tensor, lengths: Tensor, batch_axis: int, time_axis: int) -> Tensor:
    """The first ``lengths`` steps of each sequence backwards, the rest as it was."""
    time = torch.arange(data.shape[time_axis], device=data.device)
    backwards = lengths[:, None] - 1 - time
    order = torch.where(backwards >= 0, backwards, time.expand_as(backwards))
    order = order if batch_axis < time_axis else order.t()
    shape = [
        data.shape[axis] if axis in (batch_axis, time_axis) else 1 for axis in range(data.dim())
    ]
    return data.gather(time_axis, order.reshape(shape).expand(data.shape))
