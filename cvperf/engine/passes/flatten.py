"""A fully connected layer reads an image as it lies in memory, channels last."""

from __future__ import annotations

import math

import torch
from torch import Tensor, fx

from cvperf.engine.passes.convolution import add_weight, arguments, weight_of
from cvperf.engine.passes.layers import is_left

_ATEN = torch.ops.aten
_LEAST_ROWS = 16
"""Fewer images are flattened in no time, and the weight would be held twice for it."""


def reorder_flattened(graph: fx.GraphModule) -> None:
    """``linear(image.flatten(1))`` of a channels-last image, which torch copies to flatten it: the
    columns of the weight are reordered instead. So do the heads of Faster R-CNN read their RoIs."""
    for node in list(graph.graph.nodes):
        if node.target != _ATEN.linear.default or is_left(node):
            continue
        weight = weight_of(graph, arguments(node)["weight"])
        image = _flattened(node.args[0])
        if image is not None and weight is not None:
            _reorder(graph, node, image, weight)


def _flattened(rows: fx.Node) -> fx.Node | None:
    """The image [N, C, H, W] of which these are the rows [N, C * H * W], copied for this alone."""
    if rows.target != _ATEN._unsafe_view.default or len(rows.users) != 1:
        return None
    copy = rows.args[0]
    if not isinstance(copy, fx.Node) or copy.target != _ATEN.clone.default or len(copy.users) != 1:
        return None
    image = copy.args[0]
    assert isinstance(image, fx.Node)
    value: Tensor = image.meta["val"]
    if value.dim() != 4 or not value.is_contiguous(memory_format=torch.channels_last):
        return None
    count, *size = value.shape
    if isinstance(count, int) and count < _LEAST_ROWS:
        return None
    is_all = tuple(rows.meta["val"].shape) == (count, math.prod(size))
    return image if is_all and all(isinstance(each, int) for each in size) else None


def _reorder(graph: fx.GraphModule, node: fx.Node, image: fx.Node, weight: Tensor) -> None:
    rows = node.args[0]
    assert isinstance(rows, fx.Node)
    size = image.meta["val"].shape[1:]
    columns = weight.unflatten(1, size).permute(0, 2, 3, 1).flatten(1)
    with graph.graph.inserting_before(node):
        last = graph.graph.call_function(_ATEN.permute.default, (image, [0, 2, 3, 1]))
        flat = graph.graph.call_function(_ATEN.reshape.default, (last, rows.args[1]))
    last.meta = {**rows.meta, "val": image.meta["val"].permute(0, 2, 3, 1)}
    flat.meta = dict(rows.meta)
    node.update_arg(0, flat)
    node.update_arg(1, add_weight(graph, node, "weight", columns))
