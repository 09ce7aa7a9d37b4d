"""Channels of different range share one scale badly; between two layers they can be made alike.

Where a rectified image is read by one convolution alone, a channel of it may be multiplied by any
number that the next weight is divided by. A depthwise convolution has a scale for each channel
anyway, so that there nothing is lost; a dense one has one scale for all the channels that a filter
reads, so that only half of the way is gone (in the logarithm).

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV
2019; ranges here are those of the activations that calibration saw.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, fx

from cvperf.engine.passes.convolution import (
    ACTIVATION,
    BIAS,
    CONV2D,
    GROUPS,
    INPUT,
    RESIDUAL,
    WEIGHT,
    add_weight,
    weight_of,
)

MOST = 256.0
"""What a channel is multiplied by at most: one that was hardly seen says little about its range."""


def equalise(graph: fx.GraphModule, highest: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scale channels between convolutions, in place.

    Args:
        graph: fused, float32.
        highest: [C], the greatest value of each channel by the name of the node that gives it.

    Returns:
        [C], what each channel of an image that was scaled is multiplied by, by the same names.
    """
    scaled = {}
    for layer in list(graph.graph.nodes):
        reader = next(iter(layer.users), None)
        if reader is not None and layer.name in highest and _fits(graph, layer, reader):
            top = float(highest[layer.name].max())
            if top > 0:
                share = highest[layer.name] / top
                scaled[layer.name] = _scale(graph, layer, reader, share)
    return scaled


def _fits(graph: fx.GraphModule, layer: fx.Node, reader: fx.Node) -> bool:
    return (
        layer.target == reader.target == CONV2D
        and len(layer.users) == 1
        and reader.args[INPUT] is layer
        and reader.args[RESIDUAL] is not layer
        and layer.args[RESIDUAL] is None
        and layer.args[ACTIVATION] in ("relu", "relu6")
        and all(weight_of(graph, node.args[WEIGHT]) is not None for node in (layer, reader))
        and weight_of(graph, layer.args[BIAS]) is not None
        and reader.args[GROUPS] in (1, len(layer.meta["val"][0]))
    )


def _scale(graph: fx.GraphModule, layer: fx.Node, reader: fx.Node, share: Tensor) -> Tensor:
    """By the share of the whole range that each channel [C] uses."""
    weight, after = (weight_of(graph, node.args[WEIGHT]) for node in (layer, reader))
    bias = weight_of(graph, layer.args[BIAS])
    assert weight is not None
    assert after is not None
    assert bias is not None
    factor = (1 / share.clamp(min=1 / MOST)).to(weight.dtype)
    depthwise = reader.args[GROUPS] != 1
    if not depthwise:
        factor = factor.sqrt()
    column = factor.view(-1, 1, 1, 1)
    layer.update_arg(WEIGHT, add_weight(graph, layer, "weight", weight * column))
    layer.update_arg(BIAS, add_weight(graph, layer, "bias", bias * factor))
    divided = after / (column if depthwise else column.view(1, -1, 1, 1))
    reader.update_arg(WEIGHT, add_weight(graph, reader, "weight", divided))
    return factor
