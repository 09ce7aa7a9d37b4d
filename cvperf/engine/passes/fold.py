"""A scale and a shift a channel, into the weights of the layer before them."""

from __future__ import annotations

from torch import Tensor, fx

from cvperf.engine.passes.binary import CONV2D_BINARY, fold_into_binary
from cvperf.engine.passes.convolution import (
    ACTIVATION,
    BIAS,
    CONV2D,
    DEPTH_TO_SPACE,
    RESIDUAL,
    WEIGHT,
    add_weight,
    weight_of,
)


def fold(graph: fx.GraphModule, layer: fx.Node, scale: Tensor, shift: Tensor) -> bool:
    """``layer * scale + shift`` by the layer's own weight and bias.

    Args:
        graph: is changed.
        layer: any node.
        scale: float64 [O].
        shift: float64 [O].

    Returns:
        False, and nothing is changed, if ``layer`` is no convolution of fixed weight, or if others
        read what it gives, or if it ends in an activation or a sum.
    """
    if len(layer.users) != 1:
        return False
    if layer.target == DEPTH_TO_SPACE:
        depth = layer.args[0]
        assert isinstance(depth, fx.Node)
        places = depth.meta["val"].shape[1] // len(scale)
        return fold(graph, depth, scale.repeat(places), shift.repeat(places))
    if layer.target == CONV2D_BINARY:
        return fold_into_binary(graph, layer, scale, shift)
    if layer.target != CONV2D:
        return False
    weight = weight_of(graph, layer.args[WEIGHT])
    bias = weight_of(graph, layer.args[BIAS])
    if weight is None or (bias is None and layer.args[BIAS] is not None):
        return False
    if layer.args[ACTIVATION] is not None or layer.args[RESIDUAL] is not None:
        return False
    if bias is not None:
        shift = shift + bias.double() * scale
    folded = (weight.double() * scale.view(-1, 1, 1, 1)).to(weight.dtype)
    layer.update_arg(WEIGHT, add_weight(graph, layer, "weight", folded))
    layer.update_arg(BIAS, add_weight(graph, layer, "bias", shift.to(weight.dtype)))
    return True
