"""Chains of a batch norm, a sum and an activation in a graph of torch.fx."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from cvperf.ops._activation import LEAKY_RELU_SLOPE

_SUMS = (operator.add, operator.iadd, torch.add)
_FUNCTIONS: dict[Any, str] = {
    F.relu: "relu", torch.relu: "relu", torch.relu_: "relu", F.relu6: "relu6", F.silu: "silu",
    F.hardswish: "hardswish", F.sigmoid: "sigmoid", torch.sigmoid: "sigmoid",
}  # fmt: skip
_METHODS = {"relu": "relu", "relu_": "relu", "sigmoid": "sigmoid", "sigmoid_": "sigmoid"}
_LAYERS = {
    nn.ReLU: "relu", nn.ReLU6: "relu6", nn.SiLU: "silu", nn.Hardswish: "hardswish",
    nn.Sigmoid: "sigmoid",
}  # fmt: skip


@dataclass(frozen=True)
class Chain:
    """A batch norm and what can be fused with it.

    Attributes:
        name: of the batch norm in the model.
        nodes: of the graph, in order; each is the only user of the one before.
        residual: what is added, or None.
        activation: its name, or None.
    """

    name: str
    nodes: tuple[fx.Node, ...]
    residual: fx.Node | None
    activation: str | None

    def __str__(self) -> str:
        parts = [self.name, "add" if self.residual is not None else "", self.activation or ""]
        return " + ".join(part for part in parts if part)


def chains(graph: fx.Graph, model: nn.Module) -> Iterator[Chain | tuple[str, str]]:
    """Each chain of the graph; for a batch norm that begins none its name, and why.

    The caller may replace a chain before it asks for the next.
    """
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in list(graph.nodes):
        if node.op != "call_module":
            continue
        name, norm = str(node.target), model.get_submodule(str(node.target))
        if type(norm) is not nn.BatchNorm2d:
            continue
        if norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks:
            yield name, "it has hooks"
        elif calls[node.target] > 1:
            yield name, "it is called more than once"
        elif len(node.args) != 1 or node.kwargs:
            yield name, "it is called with other arguments than one tensor"
        else:
            chain = _chain(node, model)
            order = {each: i for i, each in enumerate(graph.nodes)}
            between = [
                each
                for each in node.graph.nodes
                if order[node] < order[each] < order[chain.nodes[-1]] and each not in chain.nodes
            ]
            if any(_written_by(each, model) is node.args[0] for each in between):
                yield name, "its input is changed in place before the activation"
            else:
                yield chain


def _chain(norm: fx.Node, model: nn.Module) -> Chain:
    nodes, residual = [norm], None
    after = _only_user(norm)
    if after is not None and _is_sum(after):
        first, second = after.args
        other = second if first is norm else first
        # Kept for the gradient, it must not be changed in place, now or later.
        changed = isinstance(other, fx.Node) and any(
            _written_by(user, model) is other for user in other.users
        )
        if isinstance(other, fx.Node) and other is not norm and not changed:
            nodes, residual = [norm, after], other
            after = _only_user(after)
        else:
            after = None
    activation = None if after is None else _activation(after, model)
    if after is not None and activation is not None:
        nodes.append(after)
    return Chain(str(norm.target), tuple(nodes), residual, activation)


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_sum(node: fx.Node) -> bool:
    named = node.op == "call_function" and node.target in _SUMS
    called = node.op == "call_method" and node.target in ("add", "add_")
    return (named or called) and len(node.args) == 2 and not node.kwargs


def _activation(node: fx.Node, model: nn.Module) -> str | None:
    """The name of a node's activation if it can be fused."""
    if node.op == "call_method":
        return _METHODS.get(str(node.target))
    settings = {key: value for key, value in node.kwargs.items() if key != "inplace"}
    if node.op == "call_function":
        if node.target in (F.hardtanh, F.leaky_relu):
            return None  # their limits may come in any form; the layers say them
        if settings or len(node.args) > 2:
            return None
        return _FUNCTIONS.get(node.target)
    if node.op != "call_module":
        return None
    layer = model.get_submodule(str(node.target))
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks:
        return None
    if type(layer) is nn.Hardtanh:
        return "relu6" if (layer.min_val, layer.max_val) == (0, 6) else None
    if type(layer) is nn.LeakyReLU:
        return "leaky_relu" if layer.negative_slope == LEAKY_RELU_SLOPE else None
    return _LAYERS.get(type(layer))


def _written_by(node: fx.Node, model: nn.Module) -> Any:
    """The node that this one changes in place; None if it changes none."""
    in_place = bool(node.kwargs.get("inplace"))
    if node.op == "call_module":
        in_place = bool(getattr(model.get_submodule(str(node.target)), "inplace", False))
    elif node.op == "call_method":
        in_place = str(node.target).endswith("_")
    elif node.op == "call_function":
        name = getattr(node.target, "__name__", "")
        augmented = getattr(node.target, "__module__", "") == "_operator" and name.startswith("i")
        positional = len(node.args) > 1 and node.args[1] is True
        in_place |= augmented or positional or name == "setitem"
        in_place |= name.endswith("_") and not name.endswith("__")
    return node.args[0] if in_place and node.args else None
