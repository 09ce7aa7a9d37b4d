"""A transposed convolution of windows side by side is a 1x1 convolution and a rearrangement."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from cvperf.engine.passes.convolution import (
    CONV2D,
    DEPTH_TO_SPACE,
    add_weight,
    arguments,
    weight_of,
)
from cvperf.engine.passes.layers import is_left
from cvperf.ops._convolution import as_pair

_ATEN = torch.ops.aten


def rewrite_transposed(graph: fx.GraphModule) -> None:
    """Where the kernel is as large as the stride, as in U-Net's way up and Mask R-CNN's masks: then
    all that holds for convolutions, integers among it, holds for it."""
    for node in list(graph.graph.nodes):
        if node.target != _ATEN.conv_transpose2d.input or is_left(node):
            continue
        found = arguments(node)
        weight, bias = (weight_of(graph, found[name]) for name in ("weight", "bias"))
        if weight is None or (bias is None and found["bias"] is not None):
            continue
        if not _is_apart(node, weight) or node.meta["val"].dim() != 4:
            continue
        _rewrite(graph, node, weight, bias)


def is_apart(
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int] | str,
    output_padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> bool:
    """Whether a transposed convolution's windows lie side by side, without gaps and overlaps."""
    none, one = (0, 0), (1, 1)
    rest = (tuple(padding), tuple(output_padding), tuple(dilation), groups)
    return tuple(stride) == tuple(kernel) and rest == (none, none, one, 1)


def by_place(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """A transposed convolution's weight [C, O, h, w] and bias [O] as those of the 1x1 convolution
    whose filters are the window's places, row by row, each with all channels: [h * w * O, C, 1, 1]
    and [h * w * O]."""
    channels, _, rows, columns = weight.shape
    flat = weight.permute(2, 3, 1, 0).reshape(-1, channels, 1, 1)
    return flat, None if bias is None else bias.repeat(rows * columns)


def _is_apart(node: fx.Node, weight: Tensor) -> bool:
    found = arguments(node)
    return is_apart(
        weight.shape[2:],
        as_pair("stride", found["stride"], 1),
        as_pair("padding", found["padding"], 0),
        as_pair("output_padding", found["output_padding"], 0),
        as_pair("dilation", found["dilation"], 1),
        found["groups"],
    )


def _rewrite(graph: fx.GraphModule, node: fx.Node, weight: Tensor, bias: Tensor | None) -> None:
    image = node.args[0]
    assert isinstance(image, fx.Node)
    _, filters, rows, columns = weight.shape
    flat, repeated = by_place(weight, bias)
    new_weight = add_weight(graph, node, "weight", flat)
    new_bias = None if repeated is None else add_weight(graph, node, "bias", repeated)
    one, none = [1, 1], [0, 0]
    with graph.graph.inserting_before(node):
        layer = graph.graph.call_function(
            CONV2D, (image, new_weight, new_bias, one, none, one, 1, None, None)
        )
        new = graph.graph.call_function(DEPTH_TO_SPACE, (layer, rows, columns))
    value = image.meta["val"]
    size = (value.shape[0], rows * columns * filters, *value.shape[2:])
    layer.meta = {**node.meta, "val": value.new_empty(size)}
    new.meta = dict(node.meta)
    node.replace_all_uses_with(new)
    graph.graph.erase_node(node)
