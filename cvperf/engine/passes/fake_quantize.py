"""A fixed weight that is fake-quantised is a fixed weight: rounded once, here."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from cvperf.engine.passes.convolution import add_weight, weight_of

_WEIGHTS = torch.ops.aten.fake_quantize_per_channel_affine.default

STEPS = "cvperf_steps"
"""In the ``meta`` of a node that reads such a weight: the greatest integer of it."""


def fix_quantised_weights(graph: fx.GraphModule) -> None:
    """In place; scales that are computed from the weight are computed too."""
    for node in list(graph.graph.nodes):
        if node.target == _WEIGHTS:
            value = _value(graph, node)
            if value is not None:
                for user in node.users:
                    user.meta[STEPS] = node.args[-1]
                node.replace_all_uses_with(add_weight(graph, node, "rounded", value))
                graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()


def _value(graph: fx.GraphModule, node: Any) -> Tensor | None:
    """What a node gives, if that depends on no input."""
    if node.op != "call_function":
        return weight_of(graph, node)
    found = {each: _value(graph, each) for each in node.all_input_nodes}
    if not found or any(value is None for value in found.values()):
        return None
    args, kwargs = fx.map_arg((node.args, node.kwargs), found.__getitem__)
    with torch.no_grad():
        result = node.target(*args, **kwargs)
    return result if isinstance(result, Tensor) else None
