"""Which layers read a weight that is fake-quantised: marked before the weight is folded."""

from __future__ import annotations

import torch
from torch import fx

STEPS = "cvperf_steps"
"""In the ``meta`` of a node that reads such a weight: the greatest integer of it."""


def mark_quantised_weights(graph: fx.GraphModule) -> None:
    """In place; the rounding itself is a constant like any other (``fold_constants``)."""
    for node in graph.graph.nodes:
        if node.target == torch.ops.aten.fake_quantize_per_channel_affine.default:
            for user in node.users:
                user.meta[STEPS] = node.args[-1]
