"""A factor or a summand a channel, after a convolution, goes into its weight and bias."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from cvperf.engine.passes.convolution import arguments, weight_of
from cvperf.engine.passes.fold import fold

_ATEN = torch.ops.aten
_PRODUCTS = (_ATEN.mul.Tensor, _ATEN.div.Tensor)
_SUMS = (_ATEN.add.Tensor, _ATEN.sub.Tensor)


def fold_affine(graph: fx.GraphModule) -> None:
    """``convolution * c`` and ``convolution + c``, c a number or one a channel, as frozen batch
    norms and normalised outputs are written. In float64, rounded once each."""
    for node in list(graph.graph.nodes):
        if node.target not in _PRODUCTS + _SUMS or not isinstance(node.meta.get("val"), Tensor):
            continue
        if node.meta["val"].dim() != 4:
            continue
        one, other = node.args[:2]
        pairs = [(one, other), (other, one)] if _commutes(node) else [(one, other)]
        for layer, constant in pairs:
            if not isinstance(layer, fx.Node) or not _is_alike(layer, node):
                continue
            channels = _by_channel(graph, constant, node.meta["val"].shape[1])
            if channels is not None and fold(graph, layer, *_scale_and_shift(node, channels)):
                node.replace_all_uses_with(layer)
                graph.graph.erase_node(node)
                break


def _commutes(node: fx.Node) -> bool:
    if node.target == _ATEN.add.Tensor:
        return arguments(node)["alpha"] == 1
    return node.target == _ATEN.mul.Tensor


def _is_alike(layer: fx.Node, node: fx.Node) -> bool:
    """Whether the operator keeps the size and the dtype of the image."""
    value, result = layer.meta.get("val"), node.meta["val"]
    return (
        isinstance(value, Tensor)
        and value.dtype == result.dtype
        and tuple(value.shape) == tuple(result.shape)
    )


def _by_channel(graph: fx.GraphModule, constant: Any, channels: int) -> Tensor | None:
    """float64 [C] if it is a number or one a channel of an image."""
    if isinstance(constant, (int, float)):
        return torch.full((channels,), constant, dtype=torch.float64)
    value = weight_of(graph, constant)
    if value is None or not value.is_floating_point():
        return None
    if value.numel() == 1 and value.dim() <= 4:
        return value.double().reshape(1).expand(channels)
    if tuple(value.shape) in ((channels, 1, 1), (1, channels, 1, 1)):
        return value.double().reshape(channels)
    return None


def _scale_and_shift(node: fx.Node, channels: Tensor) -> tuple[Tensor, Tensor]:
    ones, zeros = torch.ones_like(channels), torch.zeros_like(channels)
    if node.target in _PRODUCTS:
        return (channels if node.target == _ATEN.mul.Tensor else 1 / channels), zeros
    alpha = arguments(node)["alpha"]
    return ones, channels * (alpha if node.target == _ATEN.add.Tensor else -alpha)
