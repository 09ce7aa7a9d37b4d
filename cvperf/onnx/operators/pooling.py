"""Pooling over windows and over whole images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cvperf.onnx.node import Node
from cvperf.onnx.operators.convolution import CONVOLUTIONS
from cvperf.onnx.operators.padding import same_pads, symmetric, torch_order
from cvperf.onnx.registry import operator
from cvperf.onnx.values import Value

MAXIMUM: dict[int, Callable[..., Any]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE: dict[int, Callable[..., Any]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


class Windows(NamedTuple):
    """The windows of a pool, one number for each spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[int, ...]
    """All beginnings, then all ends."""
    automatic: str
    """The attribute ``auto_pad``."""
    ceil: bool

    def direct(self) -> bool:
        """Whether torch's own pools have these pads."""
        half = [2 * pad <= size for pad, size in zip(self.pads, self.kernel, strict=False)]
        return self.automatic in ("NOTSET", "VALID") and symmetric(self.pads) and all(half)

    def pads_for(self, sizes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """``pads`` for an image of these sizes, and how far windows reach beyond them at the end.

        A window that would start in the padding at the end is left out, as ONNX says since 22.
        """
        if self.automatic.startswith("SAME"):
            lower = self.automatic == "SAME_LOWER"
            pads = same_pads(sizes, self.kernel, self.stride, self.dilation, lower)
            return pads, (0,) * len(sizes)
        half, beyond = len(self.kernel), []
        for axis, size in enumerate(sizes):
            before, after, step = self.pads[axis], self.pads[axis + half], self.stride[axis]
            reach = (self.kernel[axis] - 1) * self.dilation[axis] + 1
            steps = (size + before + after - reach + (step - 1 if self.ceil else 0)) // step
            if self.ceil and steps * step >= size + before:
                steps -= 1
            beyond.append(steps * step + reach - size - before - after)
        return self.pads, tuple(beyond)


def windows_of(node: Node) -> Windows:
    kernel = tuple(node.attribute("kernel_shape"))
    spatial = len(kernel)
    if spatial not in MAXIMUM:
        raise node.unsupported(f"{spatial} spatial dimensions; torch pools 1 to 3")
    automatic = node.attribute("auto_pad", "NOTSET")
    pads = node.attribute("pads", None) if automatic == "NOTSET" else None
    return Windows(
        kernel,
        tuple(node.attribute("strides", None) or [1] * spatial),
        tuple(node.attribute("dilations", None) or [1] * spatial),
        tuple(pads or [0] * (2 * spatial)),
        automatic,
        bool(node.attribute("ceil_mode", 0)),
    )


@operator("MaxPool")
def max_pool(node: Node) -> Value | Sequence[Value]:
    data, windows = node.tensor(0), windows_of(node)
    spatial = len(windows.kernel)
    function, rank = MAXIMUM[spatial], spatial + 2
    padding = windows.pads[:spatial]
    options = (windows.kernel, windows.stride, padding, windows.dilation, windows.ceil)
    if node.wants(1):
        if not windows.direct() or node.attribute("storage_order", 0):
            raise node.unsupported("it gives indices with asymmetric pads or in column order")
        return node.builder.tensors(2, maxima_and_places, data, *options, rank=rank)
    if windows.direct() and data.dtype in (torch.float32, torch.float64):
        return node.emit(function, data, *options, rank=rank)
    return node.emit(maxima, data, windows, rank=rank)


@operator("AveragePool")
def average_pool(node: Node) -> Value:
    data, windows = node.tensor(0), windows_of(node)
    spatial = len(windows.kernel)
    include = bool(node.attribute("count_include_pad", 0))
    if windows.direct() and set(windows.dilation) == {1}:
        padding = windows.pads[:spatial]
        options = (windows.kernel, windows.stride, padding, windows.ceil, include)
        return node.emit(AVERAGE[spatial], data, *options, rank=spatial + 2)
    return node.emit(averages, data, windows, include, rank=spatial + 2)


@operator("LpPool")
def lp_pool(node: Node) -> Value:
    data, windows = node.tensor(0), windows_of(node)
    order = float(node.attribute("p", 2))
    return node.emit(norms, data, windows, order, rank=len(windows.kernel) + 2)


@operator("GlobalAveragePool")
def global_average_pool(node: Node) -> Value:
    return _global(node, torch.mean, means_of_images)


@operator("GlobalMaxPool")
def global_max_pool(node: Node) -> Value:
    return _global(node, torch.amax, maxima_of_images)


def _global(
    node: Node, function: Callable[..., Any], of_any_rank: Callable[[Tensor], Tensor]
) -> Value:
    data = node.tensor(0)
    if data.rank is None:
        return node.emit(of_any_rank, data)
    axes = tuple(range(2, data.rank))
    return node.emit(function, data, axes, keepdim=True, rank=data.rank)


def means_of_images(data: Tensor) -> Tensor:
    return torch.mean(data, tuple(range(2, data.dim())), keepdim=True)


def maxima_of_images(data: Tensor) -> Tensor:
    return torch.amax(data, tuple(range(2, data.dim())), keepdim=True)


def maxima(data: Tensor, windows: Windows) -> Tensor:
    """Any pads, and any dtype that float32 holds; torch pools floats only."""
    function = MAXIMUM[len(windows.kernel)]
    wide = data if data.is_floating_point() else data.to(torch.float32)
    padded = F.pad(wide, _amounts(wide, windows), value=float("-inf"))
    return function(padded, windows.kernel, windows.stride, 0, windows.dilation).to(data.dtype)


def maxima_and_places(
    data: Tensor, kernel: tuple[int, ...], *options: Any
) -> tuple[Tensor, Tensor]:
    """Places count in the whole tensor, torch's in one image."""
    values, places = MAXIMUM[len(kernel)](data, kernel, *options, return_indices=True)
    images = torch.arange(data.shape[0] * data.shape[1], device=data.device)
    first = images * data.shape[2:].numel()
    return values, places + first.reshape(*data.shape[:2], *(1,) * (data.dim() - 2))


def averages(data: Tensor, windows: Windows, include: bool) -> Tensor:
    """Sums over windows, divided by how many pixels (or pads, if they count) each one has."""
    pads, beyond = windows.pads_for(data.shape[2:])
    nothing = (0,) * len(beyond)
    ones = data.new_ones((1, 1, *data.shape[2:]))
    counted = F.pad(
        F.pad(ones, torch_order(pads), value=float(include)), torch_order((*nothing, *beyond))
    )
    padded = F.pad(F.pad(data, torch_order(pads)), torch_order((*nothing, *beyond)))
    return _sums(padded, windows) / _sums(counted, windows)


def norms(data: Tensor, windows: Windows, order: float) -> Tensor:
    padded = F.pad(data, _amounts(data, windows))
    return _sums(padded.abs().pow(order), windows).pow(1 / order)


def _sums(data: Tensor, windows: Windows) -> Tensor:
    """The sum of each window of an image that is padded already."""
    ones = data.new_ones((1, 1, *windows.kernel))
    single = data.reshape(-1, 1, *data.shape[2:])
    convolve = CONVOLUTIONS[len(windows.kernel)]
    sums = convolve(single, ones, None, windows.stride, 0, windows.dilation)
    return sums.reshape(*data.shape[:2], *sums.shape[2:])


def _amounts(data: Tensor, windows: Windows) -> tuple[int, ...]:
    """Pads for torch, with what windows need beyond them."""
    pads, beyond = windows.pads_for(data.shape[2:])
    half = len(beyond)
    ends = [pad + more for pad, more in zip(pads[half:], beyond, strict=True)]
    return torch_order((*pads[:half], *ends))
