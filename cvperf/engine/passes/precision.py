"""A graph in another floating-point dtype: weights once, inputs and answers at its edges."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from cvperf.engine.passes.binary import CONV2D_BINARY, OUT_DTYPE
from cvperf.engine.passes.convolution import add_weight, weight_of
from cvperf.engine.passes.layers import layer_name

_TO_COPY = torch.ops.aten._to_copy.default


def compute_in(
    graph: fx.GraphModule, dtype: torch.dtype, takes: Callable[[str], bool] = lambda name: True
) -> None:
    """Compute in ``dtype`` what is float32; inputs and answers stay float32.

    Args:
        graph: rewritten in place.
        dtype: float16 or bfloat16.
        takes: whether what the module of this name computes is meant; other modules stay float32,
            and their inputs and outputs are converted where they meet one that is not.
    """
    nodes = list(graph.graph.nodes)
    narrow: set[fx.Node] = set()  # of those that compute, or hand on what such a one gives
    for node in nodes:
        if node.op != "call_function":
            continue
        is_part = node.target is operator.getitem
        if node.args[0] in narrow if is_part else takes(layer_name(node)):
            narrow.add(node)
    meet = _Meeting(graph, dtype, narrow)
    for node in nodes:
        if node.op in ("call_function", "output"):
            meet.convert_inputs(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()


class _Meeting:
    """Conversions between what is narrow and what is not, each value's once."""

    def __init__(self, graph: fx.GraphModule, dtype: torch.dtype, narrow: set[fx.Node]) -> None:
        self._graph = graph
        self._dtype = dtype
        self._narrow = narrow
        self._converted: dict[fx.Node, fx.Node] = {}

    def convert_inputs(self, reader: fx.Node) -> None:
        """Let a node read each float32 value in its own precision."""
        wants_narrow = reader in self._narrow
        if reader.target == CONV2D_BINARY:  # reads bits, and a scale and a bias that stay float32
            if wants_narrow and reader.args[OUT_DTYPE] == torch.float32:
                reader.update_arg(OUT_DTYPE, self._dtype)
            return
        for value in reader.all_input_nodes:
            if _is_float32(value.meta.get("val")) and (value in self._narrow) != wants_narrow:
                reader.replace_input_with(value, self._convert(value))

    def _convert(self, value: fx.Node) -> fx.Node:
        if value not in self._converted:
            self._converted[value] = self._conversion(value)
        return self._converted[value]

    def _conversion(self, value: fx.Node) -> fx.Node:
        if value.op == "get_attr":
            weight = weight_of(self._graph, value)
            assert weight is not None
            return add_weight(self._graph, value.next, "narrow", weight.to(self._dtype))
        dtype = torch.float32 if value in self._narrow else self._dtype
        with self._graph.graph.inserting_after(value):
            return self._graph.graph.call_function(_TO_COPY, (value,), {"dtype": dtype})


def _is_float32(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.float32
