"""Convolution and its transpose, in one to three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvperf.onnx.node import Node
from cvperf.onnx.operators.padding import same_pads, symmetric, torch_order
from cvperf.onnx.registry import operator
from cvperf.onnx.values import Constant, TensorValue, Value

CONVOLUTIONS: dict[int, Callable[..., Any]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED: dict[int, Callable[..., Any]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


@operator("Conv")
def conv(node: Node) -> Value:
    weight = node.weight(1)
    return convolution(node, node.tensor(0), weight, node.optional_weight(2))


def convolution(
    node: Node, data: TensorValue, weight: TensorValue, bias: TensorValue | None
) -> TensorValue:
    """The convolution that a node's attributes describe."""
    spatial = spatial_of(node, data, weight)
    if spatial not in CONVOLUTIONS:
        raise node.unsupported(f"{spatial} spatial dimensions; torch convolves 1 to 3")
    stride = tuple(node.attribute("strides", [1] * spatial))
    dilation = tuple(node.attribute("dilations", [1] * spatial))
    groups = node.attribute("group", 1)
    automatic = node.attribute("auto_pad", "NOTSET")
    rank = spatial + 2
    pads = tuple(node.attribute("pads", [0] * (2 * spatial)))
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        kernel = _kernel(node, weight)
        lower = automatic == "SAME_LOWER"
        if any(step > 1 for step in stride) or any(
            (size - 1) * step % 2 for size, step in zip(kernel, dilation, strict=True)
        ):
            data = node.emit(padded_same, data, kernel, stride, dilation, lower, rank=rank)
            pads = (0,) * (2 * spatial)
        else:  # the same on both sides, whatever the size of the image
            half = [(size - 1) * step // 2 for size, step in zip(kernel, dilation, strict=True)]
            pads = (*half, *half)
    elif automatic == "VALID":
        pads = (0,) * (2 * spatial)
    if not symmetric(pads):
        data = node.emit(F.pad, data, torch_order(pads), rank=rank)
        pads = (0,) * (2 * spatial)
    function = CONVOLUTIONS[spatial]
    return node.emit(
        function, data, weight, bias, stride, pads[:spatial], dilation, groups, rank=rank
    )


@operator("ConvTranspose")
def conv_transpose(node: Node) -> Value:
    data, weight, bias = node.tensor(0), node.weight(1), node.optional_weight(2)
    spatial = spatial_of(node, data, weight)
    if spatial not in TRANSPOSED:
        raise node.unsupported(f"{spatial} spatial dimensions; torch convolves 1 to 3")
    stride = tuple(node.attribute("strides", [1] * spatial))
    dilation = tuple(node.attribute("dilations", [1] * spatial))
    extra = tuple(node.attribute("output_padding", [0] * spatial))
    groups, rank = node.attribute("group", 1), spatial + 2
    automatic, wanted = node.attribute("auto_pad", "NOTSET"), node.attribute("output_shape", None)
    layer = (data, weight, bias, stride, dilation, groups)
    if wanted is not None or automatic.startswith("SAME"):
        upper = automatic == "SAME_UPPER"
        wanted = None if wanted is None else tuple(wanted)[-spatial:]
        return node.emit(transposed_to_shape, *layer, wanted, upper, rank=rank)
    pads = (0,) * (2 * spatial)
    if automatic == "NOTSET":
        pads = tuple(node.attribute("pads", pads))
    limits = [max(pair) for pair in zip(stride, dilation, strict=True)]
    fits = all(more < limit for more, limit in zip(extra, limits, strict=True))
    if symmetric(pads) and min(pads) >= 0 and fits:
        function, padding = TRANSPOSED[spatial], pads[:spatial]
        usual = (data, weight, bias, stride, padding, extra, groups, dilation)
        return node.emit(function, *usual, rank=rank)
    return node.emit(cropped_transpose, *layer, pads, extra, rank=rank)


def spatial_of(node: Node, data: TensorValue, weight: TensorValue) -> int:
    rank = weight.rank if weight.rank is not None else data.rank
    if rank is None:
        raise node.unsupported("neither its image nor its weight has a known number of dimensions")
    return rank - 2


def _kernel(node: Node, weight: TensorValue) -> tuple[int, ...]:
    if "kernel_shape" in node.attributes:
        return tuple(node.attribute("kernel_shape"))
    if isinstance(weight, Constant):
        return tuple(weight.tensor.shape[2:])
    raise node.unsupported("its weight is computed and kernel_shape is not given")


def padded_same(
    data: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    lower: bool,
) -> Tensor:
    """Pad so that the output has ceil(size / stride) pixels; an odd one goes to the end."""
    pads = same_pads(data.shape[2:], kernel, stride, dilation, lower)
    return F.pad(data, torch_order(pads))


def transposed_to_shape(
    data: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    wanted: Sequence[int] | None,
    upper: bool,
) -> Tensor:
    """Cut or padded to the size wanted, in * stride without one; an odd pixel is cut off the end
    where ``upper``, else off the beginning.
    """
    beginnings: list[Any] = []
    ends: list[Any] = []
    for axis, size in enumerate(data.shape[2:]):
        reach = (weight.shape[axis + 2] - 1) * dilation[axis] + 1
        target = wanted[axis] if wanted is not None else size * stride[axis]
        total = (size - 1) * stride[axis] + reach - target  # negative: zeros are added at the end
        cut = torch.sym_max(total, 0)
        beginnings.append(cut // 2 if upper else cut - cut // 2)
        ends.append(total - beginnings[-1])
    pads, extra = (*beginnings, *ends), (0,) * len(ends)
    return cropped_transpose(data, weight, bias, stride, dilation, groups, pads, extra)


def cropped_transpose(
    data: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    pads: Sequence[int],
    extra: Sequence[int],
) -> Tensor:
    """Everything is computed, then cut off at each side, or padded where more is wanted."""
    spatial = len(stride)
    full = TRANSPOSED[spatial](data, weight, None, stride, 0, 0, groups, dilation)
    ends = [more - cut for more, cut in zip(extra, pads[spatial:], strict=True)]
    cut = F.pad(full, torch_order((*(-pad for pad in pads[:spatial]), *ends)))
    return cut if bias is None else cut + bias.reshape(-1, *(1,) * spatial)
