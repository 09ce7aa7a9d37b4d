"""A number taken apart into sign and magnitude and put together again is that number."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

_ATEN = torch.ops.aten


def drop_sign(graph: fx.GraphModule) -> None:
    """``sign(x) * relu(abs(x))``, which torch's ``lp_pool2d`` makes of its sums, becomes ``x``."""
    for node in list(graph.graph.nodes):
        if node.target != _ATEN.mul.Tensor:
            continue
        sign, magnitude = node.args
        number = _argument(sign, _ATEN.sign.default)
        again = _argument(_argument(magnitude, _ATEN.relu.default), _ATEN.abs.default)
        if number is None or again is not number:
            continue
        node.replace_all_uses_with(number)
        graph.graph.erase_node(node)


def _argument(node: Any, operator: Any) -> fx.Node | None:
    """What the operator is of; None where the node is no call of it."""
    if not isinstance(node, fx.Node) or node.target != operator:
        return None
    (argument,) = node.args
    return argument if isinstance(argument, fx.Node) else None
