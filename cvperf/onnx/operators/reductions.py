"""Sums, means, extremes and orders along axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cvperf.onnx.node import Node, floating
from cvperf.onnx.registry import operator
from cvperf.onnx.values import Value


def _square_sum(data: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    return _sum(data.square(), axes, keepdim)


def _sum(data: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    return torch.sum(data, axes, keepdim=keepdim, dtype=data.dtype)  # integers stay narrow


def _mean(data: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    if data.is_floating_point():
        return torch.mean(data, axes, keepdim=keepdim)
    count = 1
    for axis in axes:
        count *= data.shape[axis]
    return torch.div(_sum(data, axes, keepdim), count, rounding_mode="trunc").to(data.dtype)


def _product(data: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    for axis in sorted((axis % data.dim() for axis in axes), reverse=True):
        data = torch.prod(data, axis, keepdim=keepdim, dtype=data.dtype)
    return data


def _absolute_sum(data: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    return _sum(data.abs(), axes, keepdim)


def _length(data: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    return _square_sum(data, axes, keepdim).sqrt().to(data.dtype)


def _log_sum(data: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    return _sum(data, axes, keepdim).log()


def _largest(data: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    return torch.amax(data, axes, keepdim=keepdim)


def _smallest(data: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    return torch.amin(data, axes, keepdim=keepdim)


REDUCTIONS: dict[str, Callable[..., Tensor]] = {
    "ReduceL1": _absolute_sum,
    "ReduceL2": _length,
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": torch.logsumexp,
    "ReduceMax": _largest,
    "ReduceMean": _mean,
    "ReduceMin": _smallest,
    "ReduceProd": _product,
    "ReduceSum": _sum,
    "ReduceSumSquare": _square_sum,
}
# Where the axes are known, the graph shows torch's own function.
DIRECT: dict[str, Callable[..., Any]] = {
    "ReduceMean": torch.mean,
    "ReduceSum": torch.sum,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
}


@operator(*REDUCTIONS)
def reduce(node: Node) -> Value:
    """Axes are an attribute in older opsets (before 13 of ReduceSum, before 18 of the others)."""
    data, axes = node.tensor(0), node.setting("axes", 1)
    keepdim = bool(node.attribute("keepdims", 1))
    if not axes and node.attribute("noop_with_empty_axes", 0):
        return data
    if not axes and data.rank is not None:
        axes = range(data.rank)
    rank = data.rank if keepdim else _without(data.rank, axes)
    if not axes:
        return node.emit(over_all, data, node.operator, keepdim, rank=rank)
    function = REDUCTIONS[node.operator]
    if floating(data):
        function = DIRECT.get(node.operator, function)
    return node.emit(function, data, tuple(axes), keepdim=keepdim, rank=rank)


def _without(rank: int | None, axes: Any) -> int | None:
    return None if rank is None or axes is None else rank - len(axes)


@operator("ArgMax", "ArgMin")
def extreme(node: Node) -> Value:
    data, axis = node.tensor(0), node.attribute("axis", 0)
    keepdim = bool(node.attribute("keepdims", 1))
    function = torch.argmax if node.operator == "ArgMax" else torch.argmin
    rank = data.rank if keepdim else _without(data.rank, (axis,))
    if node.attribute("select_last_index", 0):
        return node.emit(last_extreme, data, node.operator, axis, keepdim, rank=rank)
    return node.emit(function, data, axis, keepdim, rank=rank)


@operator("TopK")
def top(node: Node) -> Sequence[Value]:
    """k is an attribute before opset 10, an input from then on."""
    data, axis = node.tensor(0), node.attribute("axis", -1)
    count = node.attributes["k"] if "k" in node.attributes else node.number(1)
    largest = bool(node.attribute("largest", 1))
    return node.builder.tensors(2, ordered, data, count, axis, largest, rank=data.rank)


@operator("CumSum")
def cumulative(node: Node) -> Value:
    data, axis = node.tensor(0), node.known(1, "axis")[0]
    exclusive, backwards = node.attribute("exclusive", 0), node.attribute("reverse", 0)
    if not exclusive and not backwards and floating(data):
        return node.emit(torch.cumsum, data, axis, rank=data.rank)
    return node.emit(running_sum, data, axis, bool(exclusive), bool(backwards), rank=data.rank)


def over_all(data: Tensor, name: str, keepdim: bool) -> Tensor:
    return REDUCTIONS[name](data, tuple(range(data.dim())), keepdim=keepdim)


def last_extreme(data: Tensor, name: str, axis: int, keepdim: bool) -> Tensor:
    """The last place of the extreme, where torch gives the first."""
    function = torch.argmax if name == "ArgMax" else torch.argmin
    return data.shape[axis] - 1 - function(data.flip(axis), axis, keepdim)


def ordered(data: Tensor, count: Any, axis: int, largest: bool) -> tuple[Tensor, Tensor]:
    """Equal elements come in the order of their places, which ``torch.topk`` does not promise."""
    values, order = torch.sort(data, dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, count), order.narrow(axis, 0, count)


def running_sum(data: Tensor, axis: int, exclusive: bool, backwards: bool) -> Tensor:
    data = data.flip(axis) if backwards else data
    total = torch.cumsum(data, axis, dtype=data.dtype)
    total = total - data if exclusive else total
    return total.flip(axis) if backwards else total
