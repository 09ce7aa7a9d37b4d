"""Layers on bits: what they read of their weights is computed once, batch norm is part of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

import cvperf.ops.conv2d_binary  # noqa: F401  (defines the ops)
from cvperf.engine.passes.convolution import add_weight, weight_of

CONV2D_BINARY = torch.ops.cvperf.conv2d_binary.default

# The arguments of CONV2D_BINARY by place.
BITS, PACKED, WEIGHT_SIZE, SCALE, BIAS = range(5)
STRIDE, PADDING, DILATION, ACTIVATION, OUT_DTYPE = range(5, 10)


def fix_binary_weights(graph: fx.GraphModule) -> None:
    """Packed weight, scale and bias of each layer, where they follow from fixed tensors."""
    for node in list(graph.graph.nodes):
        if node.target != CONV2D_BINARY:
            continue
        for place in (PACKED, SCALE, BIAS):
            value = _computed(graph, node.args[place])
            if value is not None:
                node.update_arg(place, add_weight(graph, node, "binary", value))


def fold_into_binary(graph: fx.GraphModule, layer: fx.Node, scale: Tensor, shift: Tensor) -> bool:
    """A scale and a shift a channel behind a layer on bits, float64, into its own.

    Returns:
        False if the layer has an activation, or its numbers are not fixed.
    """
    if layer.args[ACTIVATION] is not None:
        return False
    own = _numbers(graph, layer.args[SCALE], torch.ones_like(scale))
    bias = _numbers(graph, layer.args[BIAS], torch.zeros_like(scale))
    if own is None or bias is None:
        return False
    for place, folded in ((SCALE, own * scale), (BIAS, bias * scale + shift)):
        layer.update_arg(place, add_weight(graph, layer, "binary", folded.float()))
    return True


def _numbers(graph: fx.GraphModule, argument: Any, absent: Tensor) -> Tensor | None:
    """A number a filter in float64, if they are fixed."""
    if argument is None:
        return absent
    fixed = weight_of(graph, argument)
    return None if fixed is None else fixed.double()


def _computed(graph: fx.GraphModule, node: Any) -> Tensor | None:
    """What a node computes from fixed tensors alone; None if it does more, or stands for one."""
    if not isinstance(node, fx.Node) or node.op != "call_function" or not node.all_input_nodes:
        return None
    known: dict[fx.Node, Any] = {}
    for each in node.all_input_nodes:
        value = weight_of(graph, each)
        value = _computed(graph, each) if value is None else value
        if value is None:
            return None
        known[each] = value
    args = fx.map_arg(node.args, known.__getitem__)
    kwargs = fx.map_arg(node.kwargs, known.__getitem__)
    assert callable(node.target)
    result = node.target(*args, **kwargs)
    return result if isinstance(result, Tensor) else None
