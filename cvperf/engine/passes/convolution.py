"""Convolutions by our op's name, whose epilogue the other passes fill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

import cvperf.ops.conv2d  # noqa: F401  (defines the op)
from cvperf.engine.passes.layers import is_left
from cvperf.ops._convolution import as_pair

CONV2D = torch.ops.cvperf.conv2d.default
_ATEN = torch.ops.aten

_library = torch.library.Library("cvperf", "FRAGMENT")
_library.define("depth_to_space(Tensor x, int rows, int columns) -> Tensor")


def _depth_to_space(x: Tensor, rows: int, columns: int) -> Tensor:
    """[N, rows * columns * C, H, W] to [N, C, H * rows, W * columns], as ONNX's DepthToSpace in its
    mode DCR."""
    n, depth, height, width = x.shape
    channels = depth // (rows * columns)  # in full: of no images, -1 could be anything
    parts = x.reshape(n, rows, columns, channels, height, width)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(n, channels, height * rows, width * columns)


_library.impl("depth_to_space", _depth_to_space, "CompositeImplicitAutograd")
DEPTH_TO_SPACE = torch.ops.cvperf.depth_to_space.default

# The arguments of CONV2D by place.
INPUT, WEIGHT, BIAS, STRIDE, PADDING, DILATION, GROUPS, ACTIVATION, RESIDUAL = range(9)


def name_convolutions(graph: fx.GraphModule) -> None:
    """``aten.conv2d``, by numbers or by name of its padding, becomes ``cvperf.conv2d``."""
    for node in list(graph.graph.nodes):
        if node.target in (_ATEN.conv2d.default, _ATEN.conv2d.padding) and not is_left(node):
            _rename(graph, node)


def arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of an operator's node by the names of its schema, defaults filled in."""
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    found = {each.name: each.default_value for each in schema if each.has_default_value()}
    found.update(zip((each.name for each in schema), node.args, strict=False))
    found.update(node.kwargs)
    return found


def weight_of(graph: fx.GraphModule, node: Any) -> Tensor | None:
    """The tensor that a node stands for, if that is fixed."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    value: Any = graph
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value.detach() if isinstance(value, Tensor) else None


def add_weight(graph: fx.GraphModule, before: fx.Node, name: str, value: Tensor) -> fx.Node:
    """A new fixed tensor of the graph, to be read by the node ``before``."""
    taken = f"_cvperf_{name}"
    count = 0
    while hasattr(graph, f"{taken}_{count}"):
        count += 1
    graph.register_buffer(f"{taken}_{count}", value)
    with graph.graph.inserting_before(before):
        node = graph.graph.get_attr(f"{taken}_{count}")
    node.meta["val"] = value.to("meta")
    return node


def _rename(graph: fx.GraphModule, node: fx.Node) -> None:
    found = arguments(node)
    image, weight = found["input"], found["weight"]
    val = node.meta["val"]
    if val.dim() != 4 or not val.is_floating_point():
        return  # an image without a batch, or complex numbers: torch's
    stride, dilation = (list(as_pair(name, found[name], 1)) for name in ("stride", "dilation"))
    if isinstance(found["padding"], str):
        padding = _same(weight.meta["val"].shape, dilation, found["padding"])
        if padding is None:
            return
    else:
        padding = list(as_pair("padding", found["padding"], 0))
    with graph.graph.inserting_before(node):
        new = graph.graph.call_function(
            CONV2D,
            (image, weight, found["bias"], stride, padding, dilation, found["groups"], None, None),
        )
    new.meta = dict(node.meta)
    node.replace_all_uses_with(new)
    graph.graph.erase_node(node)


def _same(weight: Sequence[int], dilation: Sequence[int], padding: str) -> list[int] | None:
    """Padding by name as numbers; None where it is more on one side than on the other."""
    if padding == "valid":
        return [0, 0]
    totals = [dilation[i] * (weight[2 + i] - 1) for i in (0, 1)]
    return None if any(total % 2 for total in totals) else [total // 2 for total in totals]
