"""A graph that was trained on integers, on integers: its ranges are those that training found."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import fx

from cvperf.engine.passes.convolution import weight_of
from cvperf.engine.passes.fake_quantize import STEPS
from cvperf.engine.passes.layers import layer_name
from cvperf.errors import ArgumentError
from cvperf.quant.observe import Scale
from cvperf.quant.quantise import Quantise

_ATEN = torch.ops.aten
_ROUNDS = _ATEN.fake_quantize_per_tensor_affine.tensor_qparams
_KEEPS = (_ATEN.max_pool2d.default, _ATEN.cat.default)
"""What gives only numbers that it reads."""


def quantise_trained(graph: fx.GraphModule, takes: Callable[[str], bool]) -> bool:
    """Put the layers that were trained on integers on bytes; the others stay float.

    Weights are the integers of the training: they lie on steps, so that no bias needs correction.

    Returns:
        Whether there is anything of that kind in the graph.

    Raises:
        ArgumentError: the model was prepared and not trained.
    """
    scales = take_ranges(graph)
    trained = {layer_name(node) for node in graph.graph.nodes if STEPS in node.meta}
    if not scales:
        return False
    means = {
        node.name: torch.zeros(node.meta["val"].shape[1])
        for node in graph.graph.nodes
        if node.name in scales
    }
    Quantise(graph, scales, means, lambda name: name in trained and takes(name)).run()
    return True


def take_ranges(graph: fx.GraphModule) -> dict[str, Scale]:
    """The scale of each image that a graph rounds, by the name of the node that gives it.

    The graph, which is changed, rounds none any more: whoever puts its layers on bytes does.

    Raises:
        ArgumentError: a range is still unknown: the model was not trained.
    """
    found: dict[str, Scale] = {}
    steps: dict[fx.Node, Scale] = {}  # values that lie on steps
    for node in list(graph.graph.nodes):
        if node.target == _ROUNDS:
            steps[node] = found[node.args[0].name] = _scale(graph, node)
        elif node.target in _KEEPS:
            scales = [steps.get(each) for each in node.all_input_nodes]
            if scales and scales[0] is not None and all(each == scales[0] for each in scales):
                steps[node] = found[node.name] = scales[0]
    for node in list(graph.graph.nodes):
        if node.target == _ROUNDS:
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return found


def _scale(graph: fx.GraphModule, node: fx.Node) -> Scale:
    scale, zero_point = (weight_of(graph, each) for each in node.args[1:3])
    if scale is None or zero_point is None or not scale.isfinite().all():
        raise ArgumentError(
            f"the range of {node.args[0]} is not known: the model was prepared for training on "
            "integers but not trained. Run training steps, or load a trained state"
        )
    return Scale(float(scale), int(zero_point))
