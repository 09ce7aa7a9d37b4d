"""``torch.compile(model, backend="cvperf")``: dynamo's graphs as plans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn

from cvperf.dropin.configs import FusionConfig
from cvperf.dropin.optimize import OptimizedModel


def compile_backend(
    graph: fx.GraphModule, inputs: Sequence[Any], **options: Any
) -> Callable[..., Any]:
    """What torch.compile calls for each graph that it finds.

    Weights are taken as they are now: compile anew after changing them. A graph that is to have a
    gradient runs as it is; compile and call under ``torch.no_grad()``.

    Args:
        graph: of torch's functions.
        inputs: what it is called with, weights among them.
        options: those of :class:`FusionConfig`, by ``torch.compile(options=...)``.

    Returns:
        A function with the call of ``graph``.
    """
    config = FusionConfig(**options.get("options") or {})
    if torch.is_grad_enabled() and any(_needs_gradient(each) for each in inputs):
        return graph.forward
    holes = [node for node in graph.graph.nodes if node.op == "placeholder"]
    weights = {i: inputs[i] for i, node in enumerate(holes) if _is_weight(node)}
    optimized = OptimizedModel(_Bound(graph, weights), config)

    def run(*values: Any) -> Any:
        return optimized(*(value for i, value in enumerate(values) if i not in weights))

    return run


class _Bound(nn.Module):
    """A graph with its weights: called with the other inputs."""

    def __init__(self, graph: fx.GraphModule, weights: dict[int, Any]) -> None:
        super().__init__()
        self.graph = graph
        self._places = list(weights)
        for i, weight in weights.items():
            self.register_buffer(f"weight_{i}", weight.detach())
        self.eval()

    def forward(self, *inputs: Any) -> Any:
        values = list(inputs)
        for i in self._places:
            values.insert(i, getattr(self, f"weight_{i}"))
        return self.graph(*values)


def _needs_gradient(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.requires_grad


def _is_weight(node: fx.Node) -> bool:
    """Whether dynamo says that this input is a parameter or a buffer of the model."""
    return "_dynamo_static_input_type" in node.meta.get("tensor_dict", {})
