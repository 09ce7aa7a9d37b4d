"""Rewrites of a captured graph that need no sizes: several operators become one.

``fuse(graph)`` applies them in the order in which they build on each other. The graph that comes
out still runs in torch (``torch.ops.cvperf.conv2d`` is an op like any other).
"""

from __future__ import annotations

from torch import fx

from cvperf.engine.passes.activation import fuse_activation
from cvperf.engine.passes.affine import fold_affine
from cvperf.engine.passes.batch_norm import fold_batch_norm
from cvperf.engine.passes.constants import fold_constants
from cvperf.engine.passes.convolution import name_convolutions
from cvperf.engine.passes.fake_quantize import mark_quantised_weights
from cvperf.engine.passes.flatten import reorder_flattened
from cvperf.engine.passes.magnitude import drop_sign
from cvperf.engine.passes.residual import fuse_residual
from cvperf.engine.passes.transposed import rewrite_transposed
from cvperf.engine.passes.views import loosen_views


def fuse(graph: fx.GraphModule) -> None:
    """All of them, in place."""
    loosen_views(graph)
    drop_sign(graph)
    mark_quantised_weights(graph)
    name_convolutions(graph)
    rewrite_transposed(graph)
    reorder_flattened(graph)
    fold_constants(graph)
    fold_batch_norm(graph)
    fold_affine(graph)
    fuse_residual(graph)
    fuse_activation(graph)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
