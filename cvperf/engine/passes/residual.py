"""A sum is made by one of the two convolutions before it, on its way to memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from cvperf.engine.passes.convolution import ACTIVATION, CONV2D, RESIDUAL, arguments

_ADD = torch.ops.aten.add.Tensor


def fuse_residual(graph: fx.GraphModule) -> None:
    """Of the summands, the convolution that comes later in the graph takes the other one in."""
    places = {node: i for i, node in enumerate(graph.graph.nodes)}
    for node in list(graph.graph.nodes):
        if node.target != _ADD or arguments(node)["alpha"] != 1:
            continue
        one, other = node.args[:2]
        for layer, residual in sorted(
            ((one, other), (other, one)), key=lambda pair: -places.get(pair[0], -1)
        ):
            if _fits(layer, residual, node):
                layer.update_arg(RESIDUAL, residual)
                node.prepend(layer)  # the other may be computed after it
                node.replace_all_uses_with(layer)
                graph.graph.erase_node(node)
                break


def _fits(layer: Any, residual: Any, total: fx.Node) -> bool:
    if not isinstance(layer, fx.Node) or not isinstance(residual, fx.Node) or layer is residual:
        return False
    if layer.target != CONV2D or layer.args[ACTIVATION] or layer.args[RESIDUAL]:
        return False
    ours, theirs, sums = (each.meta["val"] for each in (layer, residual, total))
    return (
        len(layer.users) == 1
        and ours.dtype == theirs.dtype == sums.dtype
        and tuple(ours.shape) == tuple(theirs.shape) == tuple(sums.shape)
    )
