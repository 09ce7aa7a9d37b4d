"""A graph in another floating-point dtype: weights once, inputs and answers at its edges."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from cvperf.engine.passes.binary import CONV2D_BINARY, OUT_DTYPE
from cvperf.engine.passes.convolution import add_weight, weight_of

_TO_COPY = torch.ops.aten._to_copy.default


def compute_in(graph: fx.GraphModule, dtype: torch.dtype) -> None:
    """Compute in ``dtype`` what is float32; inputs and answers stay float32.

    So do the scales and biases of layers on bits, which are a number a filter.
    """
    for node in list(graph.graph.nodes):
        if node.op == "placeholder" and _is_float32(node.meta.get("val")):
            with graph.graph.inserting_after(node):
                narrow = graph.graph.call_function(_TO_COPY, (node,), {"dtype": dtype})
            for user in set(node.users) - {narrow}:
                if user.op != "output":
                    user.replace_input_with(node, narrow)
        elif node.op == "get_attr" and _is_float32(weight := weight_of(graph, node)):
            assert weight is not None
            users = [user for user in node.users if user.target != CONV2D_BINARY]
            if users:
                narrow = add_weight(graph, node, "narrow", weight.to(dtype))
                for user in users:
                    user.replace_input_with(node, narrow)
        elif node.target == CONV2D_BINARY and node.args[OUT_DTYPE] == torch.float32:
            node.update_arg(OUT_DTYPE, dtype)
        elif node.op == "output":
            with graph.graph.inserting_before(node):
                node.args = fx.map_arg(node.args, lambda answer: _widened(graph, answer))
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _widened(graph: fx.GraphModule, answer: fx.Node) -> fx.Node:
    if answer.op == "placeholder" or not _is_float32(answer.meta.get("val")):
        return answer
    return graph.graph.call_function(_TO_COPY, (answer,), {"dtype": torch.float32})


def _is_float32(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.float32
