"""Layers by name: which module of the model a node comes from, and which are left to torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import fx

_ATEN = torch.ops.aten
_LAYERS = (
    *(_ATEN.conv2d.default, _ATEN.conv2d.padding, _ATEN.conv_transpose2d.input),
    _ATEN.linear.default,
)


def layer_name(node: fx.Node) -> str:
    """The name within the model of the module that a node comes from; empty for the model."""
    stack = node.meta.get("nn_module_stack") or {}
    names = [str(name) for name, _ in stack.values()]
    return names[-1] if names else ""


def leave_layers(graph: fx.GraphModule, takes: Callable[[str], bool]) -> None:
    """Convolutions and fully connected layers whose name is not taken run as torch's operators."""
    for node in graph.graph.nodes:
        if node.target in _LAYERS and not takes(layer_name(node)):
            leave(node)


def leave(node: fx.Node) -> None:
    """Let a node run as torch's operator, as it is."""
    node.meta["cvperf_left"] = True


def is_left(node: fx.Node) -> bool:
    """Whether it is to."""
    return bool(node.meta.get("cvperf_left"))
