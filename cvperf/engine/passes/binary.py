"""Layers on bits take a scale and a shift a channel in."""

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
