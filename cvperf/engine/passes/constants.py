"""What depends on weights alone is computed once."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from cvperf.engine.passes.convolution import add_weight, weight_of


def fold_constants(graph: fx.GraphModule) -> None:
    """Operators that read nothing but fixed tensors, unless their result takes more memory.

    torchvision's FrozenBatchNorm2d, for one, makes its scale of four tensors in each call; timm's
    ScaledStdConv2d takes a batch norm of its weight.
    """
    for node in list(graph.graph.nodes):
        inputs = [weight_of(graph, each) for each in node.all_input_nodes]
        weights = [each for each in inputs if each is not None]
        if not weights or len(weights) != len(inputs) or not _is_pure(node):
            continue
        if sum(each.numel() for each in _results(node)) > sum(each.numel() for each in weights):
            continue
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda each: weight_of(graph, each))
        _replace(graph, node, node.target(*args, **kwargs))


def _replace(graph: fx.GraphModule, node: fx.Node, value: Any) -> None:
    if isinstance(value, Tensor):
        node.replace_all_uses_with(add_weight(graph, node, "constant", value))
    else:
        for user in list(node.users):
            one = value[user.args[1]]
            user.replace_all_uses_with(add_weight(graph, node, "constant", one))
            graph.graph.erase_node(user)
    graph.graph.erase_node(node)


def _results(node: fx.Node) -> Sequence[Tensor]:
    """The tensors that are read of what a node gives."""
    val = node.meta["val"]
    return [val] if isinstance(val, Tensor) else [val[user.args[1]] for user in node.users]


def _is_pure(node: fx.Node) -> bool:
    """Whether a node gives tensors, the same for the same arguments, and changes nothing."""
    val = node.meta.get("val")
    several = isinstance(val, tuple | list) and all(
        user.target is operator.getitem for user in node.users
    )
    return (
        isinstance(node.target, torch._ops.OpOverload)
        and (isinstance(val, Tensor) or several)
        and not node.target._schema.is_mutable
        and torch.Tag.nondeterministic_seeded not in node.target.tags
    )
