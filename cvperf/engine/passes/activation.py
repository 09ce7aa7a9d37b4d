"""An activation is computed by the convolution before it, while its sums are in registers."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from cvperf.engine.passes import binary
from cvperf.engine.passes.convolution import ACTIVATION, CONV2D, DEPTH_TO_SPACE, arguments
from cvperf.ops._activation import LEAKY_RELU_SLOPE

_ATEN = torch.ops.aten
_PLACES: dict[Any, int] = {CONV2D: ACTIVATION, binary.CONV2D_BINARY: binary.ACTIVATION}
_NAMES = {
    _ATEN.relu.default: "relu",
    _ATEN.relu6.default: "relu6",
    _ATEN.silu.default: "silu",
    _ATEN.hardswish.default: "hardswish",
    _ATEN.sigmoid.default: "sigmoid",
}


def fuse_activation(graph: fx.GraphModule) -> None:
    """Where nobody else reads what it is computed from."""
    for node in list(graph.graph.nodes):
        name = activation_of(node)
        if name is None:
            continue
        image = node.args[0]
        assert isinstance(image, fx.Node)
        moved = image.target == DEPTH_TO_SPACE and len(image.users) == 1
        layer = image.args[0] if moved else image  # where values stand makes no difference
        assert isinstance(layer, fx.Node)
        place = _PLACES.get(layer.target)
        if place is None or layer.args[place] is not None or len(layer.users) != 1:
            continue
        layer.update_arg(place, name)
        node.replace_all_uses_with(image)
        graph.graph.erase_node(node)


def activation_of(node: fx.Node) -> str | None:
    """Our name of the activation that a node computes; None if it is none of ours."""
    if node.op != "call_function":
        return None
    if node.target in _NAMES:
        return _NAMES[node.target]
    if node.target == _ATEN.hardtanh.default:
        found = arguments(node)
        return "relu6" if (found["min_val"], found["max_val"]) == (0, 6) else None
    if node.target == _ATEN.leaky_relu.default:
        return "leaky_relu" if arguments(node)["negative_slope"] == LEAKY_RELU_SLOPE else None
    return None
