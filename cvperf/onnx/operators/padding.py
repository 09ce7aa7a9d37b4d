"""Pads: the order ONNX writes them in, automatic ones, and the operator ``Pad``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvperf.onnx.node import Node
from cvperf.onnx.registry import operator
from cvperf.onnx.values import Constant, Value


def symmetric(pads: Sequence[int]) -> bool:
    """Whether both ends of each axis get the same. ONNX lists all beginnings, then all ends."""
    half = len(pads) // 2
    return tuple(pads[:half]) == tuple(pads[half:])


def torch_order(pads: Sequence[Any]) -> tuple[Any, ...]:
    """ONNX's pads as ``torch.nn.functional.pad`` wants them: the last axis first, in pairs."""
    half = len(pads) // 2
    return tuple(pads[index] for axis in reversed(range(half)) for index in (axis, axis + half))


def same_pads(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    lower: bool,
) -> tuple[int, ...]:
    """The pads of auto_pad SAME_UPPER, or SAME_LOWER, for an image of these sizes."""
    beginnings: list[Any] = []
    ends: list[Any] = []
    for size, width, step, spread in zip(sizes, kernel, stride, dilation, strict=True):
        reach = (width - 1) * spread + 1
        # (ceil(size / step) - 1) * step + reach - size, in the words that symbols bear best.
        total: Any = -size % step + reach - step
        total = total if reach >= step else torch.sym_max(0, total)
        beginnings.append((total + 1) // 2 if lower else total // 2)
        ends.append(total - beginnings[-1])
    return (*beginnings, *ends)


@operator("Pad")
def pad(node: Node) -> Value:
    """Pads are an attribute before opset 11, an input from then on; axes came with 18."""
    data = node.tensor(0)
    pads = node.attributes.get("pads") or node.numbers(1)
    axes = tuple(node.known(3, "axes")) if node.has(3) else None
    mode = node.attribute("mode", "constant")
    value: Any = node.attribute("value", 0.0)
    if node.has(2):
        fill = node.tensor(2)
        value = fill.tensor.item() if isinstance(fill, Constant) else fill
    pads = tuple(pads) if isinstance(pads, (list, tuple)) else pads
    return node.emit(padded, data, pads, axes, mode, value, rank=data.rank)


def padded(
    data: Tensor, pads: Sequence[int], axes: tuple[int, ...] | None, mode: str, value: Any
) -> Tensor:
    """Pad, or cut where a pad is negative, by ONNX's rules, along any axes."""
    axes = axes if axes is not None else tuple(range(data.dim()))
    befores, afters = [0] * data.dim(), [0] * data.dim()
    for position, axis in enumerate(axes):
        befores[axis], afters[axis] = pads[position], pads[position + len(axes)]
    if mode == "constant":
        amounts = torch_order((*befores, *afters))
        if isinstance(value, Tensor):
            return _padded_with(data, amounts, value)
        return F.pad(data, amounts, value=value)
    for axis, (before, after) in enumerate(zip(befores, afters, strict=True)):
        untouched = type(before) is int and type(after) is int and before == after == 0
        data = data if untouched else _continued(data, axis, before, after, mode)
    return data


def _padded_with(data: Tensor, amounts: tuple[int, ...], value: Tensor) -> Tensor:
    """Pad with a number that only the graph knows."""
    inside = F.pad(torch.ones_like(data, dtype=torch.bool), amounts)
    return torch.where(inside, F.pad(data, amounts), value.reshape(()))


def _continued(data: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """Pad along one axis with what lies in the tensor already."""
    size = data.shape[axis]
    place = torch.arange(-before, size + after, device=data.device)
    if mode == "edge":
        place = place.clamp(0, size - 1)
    elif mode == "wrap":
        place = place.remainder(size)
    else:  # reflect: 3 2 1 0 1 2 3, the period is twice the size less the two ends
        period = torch.sym_max(2 * (size - 1), 1)
        place = place.remainder(period)
        place = torch.where(2 * place > period, period - place, place)
    return data.index_select(axis, place)
