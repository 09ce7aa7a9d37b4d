"""Channels of different range share one scale badly; between two layers they can be made alike.

Where a rectified image is read by one convolution alone, a channel of it may be multiplied by any
number that the next weight is divided by. A depthwise convolution has a scale for each channel
anyway, so that there nothing is lost; a dense one has one scale for all the channels that a filter
reads, so that only half of the way is gone (in the logarithm). Images that are summed form a
stream, whose channels can only be multiplied together: what writes it by the factor, what reads it
divided.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV
2019; ranges here are those of the activations that calibration saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
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


def equalise(graph: fx.GraphModule, furthest: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scale channels between convolutions, in place.

    Args:
        graph: fused, float32.
        furthest: [C], how far from zero each channel goes, by the name of the node that gives it.

    Returns:
        [C], what each channel of an image that was scaled is multiplied by, by the same names.
    """
    scaled = {}
    for layer in list(graph.graph.nodes):
        reader = next(iter(layer.users), None)
        if reader is not None and layer.name in furthest and _fits(graph, layer, reader):
            share = _share([furthest[layer.name]])
            if share is not None:
                depthwise = reader.args[GROUPS] != 1
                factor = 1 / share if depthwise else (1 / share).sqrt()
                _scale(graph, [layer], [reader], factor)
                scaled[layer.name] = factor
    for writers, readers in _streams(graph):
        names = [writer.name for writer in writers]
        if all(name in furthest and name not in scaled for name in names):
            share = _share([furthest[name] for name in names])
            if share is not None:
                factor = (1 / share).sqrt()
                _scale(graph, writers, readers, factor)
                scaled.update(dict.fromkeys(names, factor))
    return scaled


def _share(furthest: Sequence[Tensor]) -> Tensor | None:
    """Of the whole range, what each channel [C] of some images uses; None if nothing was seen."""
    most = torch.stack(list(furthest)).amax(0)
    return (most / most.max()).clamp(min=1 / MOST) if most.max() > 0 else None


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


def _streams(graph: fx.GraphModule) -> list[tuple[list[fx.Node], list[fx.Node]]]:
    """Images that are summed: the convolutions that write them, and those that read them."""
    found, known = [], set[fx.Node]()
    for node in graph.graph.nodes:
        if node.target == CONV2D and node not in known:
            writers = [node]
            for each in writers:  # which grows
                if each.target != CONV2D:
                    continue  # an image that is no layer's ties the stream down: see _writes
                tied = [each.args[RESIDUAL], *(n for n in each.users if _adds(n, each))]
                writers += [n for n in tied if isinstance(n, fx.Node) and n not in writers]
            known.update(writers)
            readers = [n for each in writers for n in each.users if not _adds(n, each)]
            if all(_writes(graph, n) for n in writers) and all(_reads(graph, n) for n in readers):
                found.append((writers, list(dict.fromkeys(readers))))
    return [pair for pair in found if pair[1]]


def _adds(node: fx.Node, image: fx.Node) -> bool:
    """Whether a convolution adds an image, and does nothing else with it."""
    return node.target == CONV2D and node.args[RESIDUAL] is image and node.args[INPUT] is not image


def _writes(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a factor above 0 may be drawn through what a node ends with."""
    return (
        node.target == CONV2D
        and node.args[ACTIVATION] in (None, "relu")
        and all(weight_of(graph, node.args[each]) is not None for each in (WEIGHT, BIAS))
    )


def _reads(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a convolution's weight takes a factor of each channel that it reads."""
    if node.target != CONV2D or node.args[GROUPS] != 1:
        return False
    twice = any(node.args[each] is node.args[INPUT] for each in (BIAS, RESIDUAL))
    return not twice and weight_of(graph, node.args[WEIGHT]) is not None


def _scale(
    graph: fx.GraphModule, writers: Sequence[fx.Node], readers: Sequence[fx.Node], factor: Tensor
) -> None:
    """Multiply what is written by a factor [C], and divide the weights that meet it."""
    for node in writers:
        weight, bias = (weight_of(graph, node.args[each]) for each in (WEIGHT, BIAS))
        assert weight is not None
        assert bias is not None
        own = factor.to(weight.dtype)
        node.update_arg(WEIGHT, add_weight(graph, node, "weight", weight * own.view(-1, 1, 1, 1)))
        node.update_arg(BIAS, add_weight(graph, node, "bias", bias * own))
    for node in readers:
        weight = weight_of(graph, node.args[WEIGHT])
        assert weight is not None
        dims = (1, -1, 1, 1) if node.args[GROUPS] == 1 else (-1, 1, 1, 1)
        divided = weight / factor.to(weight.dtype).view(dims)
        node.update_arg(WEIGHT, add_weight(graph, node, "weight", divided))
