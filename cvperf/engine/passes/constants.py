"""What depends on weights alone is computed once."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from cvperf.engine.passes.convolution import add_weight, weight_of


def fold_constants(graph: fx.GraphModule) -> None:
    """Operators that read nothing but fixed tensors, unless their result takes more memory.

    torchvision's FrozenBatchNorm2d, for one, makes its scale of four tensors in each call.
    """
    for node in list(graph.graph.nodes):
        inputs = [weight_of(graph, each) for each in node.all_input_nodes]
        weights = [each for each in inputs if each is not None]
        if not weights or len(weights) != len(inputs) or not _is_pure(node):
            continue
        if node.meta["val"].numel() > sum(each.numel() for each in weights):
            continue
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda each: weight_of(graph, each))
        value = node.target(*args, **kwargs)
        node.replace_all_uses_with(add_weight(graph, node, "constant", value))
        graph.graph.erase_node(node)


def _is_pure(node: fx.Node) -> bool:
    """Whether a node gives one tensor, the same for the same arguments, and changes nothing."""
    return (
        isinstance(node.target, torch._ops.OpOverload)
        and isinstance(node.meta.get("val"), Tensor)
        and not node.target._schema.is_mutable
        and torch.Tag.nondeterministic_seeded not in node.target.tags
    )
