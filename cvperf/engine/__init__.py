"""A traced model as a flat plan: fused operators, packed weights, one arena, run in one call.

``capture`` traces, ``passes.fuse`` joins operators, ``Lower`` turns the graph into steps for one
size of input, ``Plan`` lays out their memory and runs them.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, fx

import cvperf.engine.lowerings  # noqa: F401  (registers them)
from cvperf.engine.capture import Captured, CaptureError, capture
from cvperf.engine.lower import Lower
from cvperf.engine.passes import fuse
from cvperf.engine.passes.layers import leave_layers
from cvperf.engine.passes.precision import compute_in
from cvperf.engine.plan import Plan
from cvperf.engine.weights import Weights

__all__ = [
    "CaptureError",
    "Captured",
    "Plan",
    "Weights",
    "capture",
    "compute_in",
    "fuse",
    "leave_layers",
    "plan",
]


def plan(graph: fx.GraphModule, weights: Weights, inputs: Sequence[Tensor]) -> Plan:
    """The plan of a fused graph for inputs of these sizes, strides and dtypes."""
    return Plan(Lower(graph, weights).lower(inputs))
