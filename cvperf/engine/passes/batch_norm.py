"""Batch norm of fixed statistics is a scale and a shift a channel: into the weight before it."""

from __future__ import annotations

import operator

import torch
from torch import Tensor, fx

from cvperf.engine.passes.convolution import CONV2D, add_weight, arguments, weight_of
from cvperf.engine.passes.fold import fold

_ATEN = torch.ops.aten


def fold_batch_norm(graph: fx.GraphModule) -> None:
    """Into the convolution before it where nobody else reads that, else a layer of its own.

    Folded in float64 and rounded once (Jacob et al., CVPR 2018, section 3.2).
    """
    for node in list(graph.graph.nodes):
        if node.target != _ATEN._native_batch_norm_legit_no_training.default:
            continue
        scale_and_shift = _scale_and_shift(graph, node)
        outputs = [user for user in node.users if user.target is operator.getitem]
        if (
            scale_and_shift is None
            or node.meta["val"][0].dim() != 4
            or any(user.args[1] != 0 for user in outputs if user.users)
        ):
            continue
        image = node.args[0]
        assert isinstance(image, fx.Node)
        if not fold(graph, image, *scale_and_shift):
            image = _scaled(graph, node, image, *scale_and_shift)
        for user in outputs:
            user.replace_all_uses_with(image)
            graph.graph.erase_node(user)
        graph.graph.erase_node(node)


def _scale_and_shift(graph: fx.GraphModule, node: fx.Node) -> tuple[Tensor, Tensor] | None:
    found = arguments(node)
    mean, variance = (weight_of(graph, found[name]) for name in ("running_mean", "running_var"))
    if mean is None or variance is None:
        return None
    scale = (variance.double() + found["eps"]).rsqrt()
    shift = -mean.double() * scale
    if found["weight"] is not None:
        gamma = weight_of(graph, found["weight"])
        if gamma is None:
            return None
        scale, shift = scale * gamma.double(), shift * gamma.double()
    if found["bias"] is not None:
        beta = weight_of(graph, found["bias"])
        if beta is None:
            return None
        shift = shift + beta.double()
    return scale, shift


def _scaled(
    graph: fx.GraphModule, node: fx.Node, image: fx.Node, scale: Tensor, shift: Tensor
) -> fx.Node:
    """A depthwise convolution of one tap, which takes an activation in as any other."""
    value = image.meta["val"]
    weight = add_weight(graph, node, "weight", scale.to(value.dtype).view(-1, 1, 1, 1))
    bias = add_weight(graph, node, "bias", shift.to(value.dtype))
    one, none = [1, 1], [0, 0]
    with graph.graph.inserting_before(node):
        layer = graph.graph.call_function(
            CONV2D, (image, weight, bias, one, none, one, len(scale), None, None)
        )
    layer.meta = {**node.meta, "val": value}
    return layer
