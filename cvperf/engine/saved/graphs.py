"""A captured graph's nodes as JSON.

A graph is kept as it is before it is lowered: of no size and for no instruction set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from cvperf.engine.capture import Captured
from cvperf.engine.conditions import Expected
from cvperf.engine.passes.convolution import weight_of
from cvperf.engine.passes.layers import is_left, leave
from cvperf.engine.saved.arguments import from_json, to_json
from cvperf.engine.saved.operators import name_of, operator_named
from cvperf.engine.saved.sizes import conditions_from_json, conditions_to_json
from cvperf.engine.saved.structures import structure_from_json, structure_to_json
from cvperf.engine.saved.weights import SavedWeights, read_weight
from cvperf.errors import ArgumentError


def describe_captured(captured: Captured, weights: SavedWeights) -> dict[str, Any]:
    """The graph and what it holds for, as JSON; its tensors go to ``weights``.

    Raises:
        ArgumentError: something in it has no form in a file, or a call changes its weights.
    """
    numbers: dict[fx.Node, int] = {}
    nodes = []
    for node in captured.graph.graph.nodes:
        nodes.append(_node_to_json(captured.graph, node, numbers, weights))
        numbers[node] = len(numbers)
    return {
        "arguments": structure_to_json(captured.structure, "arguments"),
        "answers": structure_to_json(captured.answers, "answers"),
        "conditions": conditions_to_json(captured.conditions()),
        "nodes": nodes,
    }


def read_captured(found: Mapping[str, Any], fetch: Callable[[str], Tensor]) -> Captured:
    """What :func:`describe_captured` had; ``fetch`` gives tensors by name.

    Raises:
        ArgumentError: something in it is unknown here.
        LookupError, TypeError, ValueError: it is damaged.
    """
    conditions = conditions_from_json(found["conditions"])
    arguments, answers = (structure_from_json(found[name]) for name in ("arguments", "answers"))
    graph = _graph(found["nodes"], fetch)
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    expected = [leaf for leaf in conditions.leaves if isinstance(leaf, Expected)]
    given = graph.graph.output_node().args[0]
    counts = (len(inputs), len(conditions.leaves), len(given))  # type: ignore[arg-type]
    if counts != (len(expected), arguments.num_leaves, answers.num_leaves):
        raise ArgumentError("the graph's inputs or answers do not fit their structures")
    return Captured(graph, arguments, lambda: conditions, answers)


def _node_to_json(
    graph: fx.GraphModule, node: fx.Node, numbers: Mapping[fx.Node, int], weights: SavedWeights
) -> dict[str, Any]:
    if node.op == "placeholder":
        return {"op": "input"}
    if node.op == "get_attr":
        tensor = weight_of(graph, node)
        if tensor is None:
            raise ArgumentError(f"the graph holds {node.target}, which is no tensor")
        return {"op": "weight", **weights.add(str(node.target), tensor)}
    if node.op == "output":
        return {"op": "answers", "args": to_json(list(node.args[0]), numbers)}  # type: ignore[arg-type]
    if node.op != "call_function":
        raise ArgumentError(f"the graph calls {node.target} by {node.op}, which cannot be saved")
    _check_writes(node)
    kwargs = {name: to_json(value, numbers) for name, value in node.kwargs.items()}
    called = {"op": name_of(node.target), "args": to_json(list(node.args), numbers)}
    if kwargs:
        called["kwargs"] = kwargs
    if is_left(node):
        called["left"] = True
    return called


def _check_writes(node: fx.Node) -> None:
    """Equal weights become one in a file: none of them may be written."""
    for argument, value in zip(_arguments(node.target), node.args, strict=False):
        written = argument.alias_info is not None and argument.alias_info.is_write
        if written and isinstance(value, fx.Node) and value.op == "get_attr":
            raise ArgumentError(
                f"a call changes {value.target} of the model ({node.target}); save a model whose "
                "calls change nothing"
            )


def _arguments(target: Any) -> list[Any]:
    """Of an operator, by its schema; a function of Python takes none by name."""
    return list(target._schema.arguments) if isinstance(target, torch._ops.OpOverload) else []


def _graph(found: list[Mapping[str, Any]], fetch: Callable[[str], Tensor]) -> fx.GraphModule:
    """All names in it are made here: fx writes them into source text that Python compiles."""
    graph = fx.Graph()
    tensors: dict[str, Tensor] = {}
    nodes: list[fx.Node] = []
    for each in found:
        nodes.append(_node(graph, each, nodes, tensors, fetch))
    if [node.op == "output" for node in nodes].index(True) != len(nodes) - 1:
        raise ArgumentError("a graph ends with its answers")
    graph.lint()
    return fx.GraphModule(tensors, graph)


def _node(
    graph: fx.Graph,
    found: Mapping[str, Any],
    nodes: list[fx.Node],
    tensors: dict[str, Tensor],
    fetch: Callable[[str], Tensor],
) -> fx.Node:
    kind = found["op"]
    if kind == "input":
        return graph.placeholder(f"input_{len(nodes)}")
    if kind == "weight":
        name = f"weight_{len(nodes)}"
        tensors[name] = read_weight(found, fetch)
        return graph.get_attr(name)
    args = from_json(found["args"], nodes)
    if kind == "answers":
        return graph.output(args)
    target = operator_named(kind)
    kwargs = {name: from_json(each, nodes) for name, each in found.get("kwargs", {}).items()}
    unknown = kwargs.keys() - {argument.name for argument in _arguments(target)}
    if unknown:
        raise ArgumentError(f"{kind} has no argument {min(unknown)!r}")
    node = graph.call_function(target, tuple(args), kwargs)
    if found.get("left"):
        leave(node)
    return node
