"""Convolutions on bytes: where a graph's images become uint8, and where they come back.

A convolution of fixed weight reads bytes and writes bytes if somebody after it can read them, else
float32. Weights are int8, symmetric, one scale a filter. Pooling and concatenation stay on bytes;
everything else sees floats.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, fx

import cvperf.ops.quantize  # noqa: F401  (defines the ops)
from cvperf.engine.passes.convolution import (
    BIAS,
    CONV2D,
    RESIDUAL,
    WEIGHT,
    add_weight,
    arguments,
    weight_of,
)
from cvperf.engine.passes.fake_quantize import STEPS
from cvperf.ops.conv2d_int8 import pack_conv2d_int8
from cvperf.quant.observe import BYTE, Scale, union
from cvperf.quant.steps import fitted, symmetric

_ATEN, _OURS = torch.ops.aten, torch.ops.cvperf
_MAX_POOL, _AVG_POOL = _ATEN.max_pool2d.default, _ATEN.avg_pool2d.default
_CAT = _ATEN.cat.default


class Quantise:
    """Rewrites one graph in place.

    Args:
        graph: fused, float32.
        scales: of its images by the name of the node that gives them.
        means: [C], of each channel of these images: what a weight loses by rounding, times the mean
            of what it meets, is given back by the bias (Nagel et al., ICCV 2019).
        takes: whether the layer of this name is to be on bytes.
        most: the greatest integer of a weight that was not trained as integers: 127, or 7.
    """

    def __init__(
        self,
        graph: fx.GraphModule,
        scales: Mapping[str, Scale],
        means: Mapping[str, Tensor],
        takes: Callable[[str], bool],
        most: int = 127,
    ) -> None:
        self.graph = graph
        self._most = most
        self._takes = takes
        self._means = means
        self.scales = dict(scales)
        self._bytes: dict[fx.Node, fx.Node] = {}  # a float value's bytes
        self._floats: dict[fx.Node, fx.Node] = {}  # and back

    def run(self) -> int:
        """How many convolutions are on bytes now."""
        nodes = list(self.graph.graph.nodes)
        self._layers = {node for node in nodes if self._is_layer(node)}
        self._moves = self._movable(nodes)
        self._share_scales()
        for node in nodes:
            if node in self._layers:
                self._layer(node)
            elif node in self._moves:
                self._move(node)
        self.graph.graph.eliminate_dead_code()
        self.graph.recompile()
        return len(self._layers)

    # --- which

    def _is_layer(self, node: fx.Node) -> bool:
        if node.target != CONV2D or weight_of(self.graph, node.args[WEIGHT]) is None:
            return False
        bias, residual = node.args[BIAS], node.args[RESIDUAL]
        images = [*_images(node), *([residual] if isinstance(residual, fx.Node) else [])]
        return (
            self._takes(layer_name(node))
            and node.meta["val"].dtype == torch.float32
            and all(each.name in self.scales for each in images)
            and (bias is None or weight_of(self.graph, bias) is not None)
        )

    def _movable(self, nodes: Sequence[fx.Node]) -> set[fx.Node]:
        """Pools and concatenations of what layers give, whole or in part."""
        found: set[fx.Node] = set()
        for node in nodes:
            images = _images(node) if _only_moves(node) else []
            if all(each.name in self.scales for each in (node, *images)) and any(
                each in self._layers or each in found for each in images
            ):
                found.add(node)
        return found

    def _reads_bytes(self, node: fx.Node) -> bool:
        return node in self._layers or node in self._moves

    def _share_scales(self) -> None:
        """What is moved keeps its scale: all that moves connect gets one for the whole."""
        group: dict[fx.Node, list[fx.Node]] = {}
        for node in self._moves:
            members = {
                id(each): each for one in (node, *_images(node)) for each in group.get(one, [one])
            }
            for each in members.values():
                group[each] = list(members.values())
        for members_of in {id(each): each for each in group.values()}.values():
            whole = union([self.scales[each.name] for each in members_of])
            self.scales.update({each.name: whole for each in members_of})

    # --- how

    def _layer(self, node: fx.Node) -> None:
        (image, _, _, stride, padding, dilation, groups, activation, residual, *_) = node.args
        assert isinstance(image, fx.Node)
        weight = weight_of(self.graph, node.args[WEIGHT])
        assert weight is not None
        steps, scale_weight = self._rounded(node, weight)
        packed = pack_conv2d_int8(steps, groups)  # type: ignore[arg-type]
        lost = steps.float() * scale_weight.view(-1, 1, 1, 1) - weight
        bias = self._corrected(node, lost, self._means[image.name])
        source = self.scales[image.name]
        to_bytes = node.name in self.scales and any(map(self._reads_bytes, node.users))
        out = self.scales.get(node.name, source)
        kept = self.scales[residual.name] if isinstance(residual, fx.Node) and to_bytes else out
        with self.graph.graph.inserting_before(node):
            read = self._as_bytes(image, node)
            added = residual
            if isinstance(residual, fx.Node):
                added = (
                    self._as_bytes(residual, node) if to_bytes else self._as_floats(residual, node)
                )
            new = self.graph.graph.call_function(
                _OURS.conv2d_int8.default,
                (
                    read,
                    add_weight(self.graph, node, "packed", packed.data),
                    list(packed.shape),
                    groups,
                    source.scale,
                    add_weight(self.graph, node, "scale", scale_weight),
                    source.zero_point,
                    bias,
                    stride,
                    padding,
                    dilation,
                    activation,
                    added,
                    kept.scale,
                    kept.zero_point,
                    out.scale,
                    out.zero_point,
                    BYTE if to_bytes else torch.float32,
                ),
            )
        self._replace(node, new, to_bytes)

    def _rounded(self, node: fx.Node, weight: Tensor) -> tuple[Tensor, Tensor]:
        trained = node.meta.get(STEPS)
        if trained is not None:
            return symmetric(weight, trained)  # of which the greatest has the last step
        return symmetric(weight, 127) if self._most == 127 else fitted(weight, self._most)

    def _corrected(self, node: fx.Node, lost: Tensor, mean: Tensor) -> fx.Node:
        """The layer's bias, less what the rounding of its weight adds on average."""
        bias, groups = weight_of(self.graph, node.args[BIAS]), len(mean) // lost.shape[1]
        means = mean.view(groups, 1, -1)  # the channels that the filters of each group read
        shift = (lost.sum((2, 3)).view(groups, -1, lost.shape[1]) * means).sum(2).flatten()
        return add_weight(self.graph, node, "bias", -shift if bias is None else bias - shift)

    def _move(self, node: fx.Node) -> None:
        with self.graph.graph.inserting_before(node):
            args = fx.map_arg(node.args, lambda each: self._as_bytes(each, node))
            new = self.graph.graph.call_function(node.target, args, node.kwargs)  # type: ignore[arg-type]
        self._replace(node, new, True)

    def _replace(self, node: fx.Node, new: fx.Node, is_bytes: bool) -> None:
        value = node.meta["val"]
        new.meta = {**node.meta, "val": value.to(BYTE) if is_bytes else value}
        if node.name in self.scales:
            self.scales[new.name] = self.scales[node.name]
        if not is_bytes:
            node.replace_all_uses_with(new)
            self.graph.graph.erase_node(node)
            return
        self._bytes[node] = new
        # Whoever reads bytes is rewritten later; the others read floats made of them.
        for user in list(node.users):
            if not self._reads_bytes(user):
                user.replace_input_with(node, self._as_floats(node, user))

    def _as_bytes(self, value: fx.Node, before: fx.Node) -> fx.Node:
        if value not in self._bytes:
            scale, zero_point = self._parameters(self.scales[value.name], before)
            new = self.graph.graph.call_function(
                _OURS.quantize.default, (value, scale, zero_point, None, BYTE)
            )
            new.meta = {"val": value.meta["val"].to(BYTE)}
            self._bytes[value] = new
        return self._bytes[value]

    def _as_floats(self, value: fx.Node, before: fx.Node) -> fx.Node:
        if value not in self._bytes or value in self._floats:
            return self._floats.get(value, value)
        source = self._bytes[value]
        with self.graph.graph.inserting_after(source):
            scale, zero_point = self._parameters(self.scales[value.name], source.next)
        with self.graph.graph.inserting_after(zero_point):
            new = self.graph.graph.call_function(
                _OURS.dequantize.default, (source, scale, zero_point, None, torch.float32)
            )
        new.meta = {"val": value.meta["val"]}
        self._floats[value] = new
        return new

    def _parameters(self, scale: Scale, before: fx.Node) -> tuple[fx.Node, fx.Node]:
        return (
            add_weight(self.graph, before, "scale", torch.tensor([scale.scale])),
            add_weight(
                self.graph,
                before,
                "zero_point",
                torch.tensor([scale.zero_point], dtype=torch.int32),
            ),
        )


def _only_moves(node: fx.Node) -> bool:
    """Whether what a node gives are its input's values, or means of them, on the same scale."""
    if node.target == _AVG_POOL:
        found = arguments(node)
        return not any(found["padding"]) and found["divisor_override"] is None
    return node.target in (_MAX_POOL, _CAT)


def layer_name(node: fx.Node) -> str:
    """The name within the model of the module that a node comes from; empty for the model."""
    stack = node.meta.get("nn_module_stack") or {}
    names = [str(name) for name, _ in stack.values()]
    return names[-1] if names else ""


def _images(node: fx.Node) -> list[fx.Node]:
    """What a convolution, a pool or a concatenation reads."""
    first = node.args[0]
    every = first if isinstance(first, (list, tuple)) else [first]
    return [each for each in every if isinstance(each, fx.Node)]
