"""Layers on bytes: where a graph's values become uint8, and where they come back.

A convolution of fixed weight reads bytes and writes bytes if somebody after it can read them, else
float32. Weights are int8, symmetric, one scale a filter. Pooling and concatenation stay on bytes. A
fully connected layer reads bytes and writes float32; everything else sees floats.

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
    DEPTH_TO_SPACE,
    RESIDUAL,
    WEIGHT,
    add_weight,
    arguments,
    weight_of,
)
from cvperf.engine.passes.fake_quantize import STEPS
from cvperf.engine.passes.layers import layer_name
from cvperf.ops.conv2d_int8 import pack_conv2d_int8
from cvperf.ops.int8_gemm import MAX_K_UNSIGNED, pack_int8
from cvperf.quant.observe import AVG_POOL, BYTE, CAT, LINEAR, MAX_POOL, Scale, union
from cvperf.quant.steps import fitted, symmetric

_ATEN, _OURS = torch.ops.aten, torch.ops.cvperf


class Quantise:
    """Rewrites one graph in place.

    Args:
        graph: fused, float32.
        scales: of its images by the name of the node that gives them.
        means: [C], of each channel of these images: what a weight loses by rounding, times the mean
            of what it meets, is given back by the bias (Nagel et al., ICCV 2019).
        takes: whether the layer of this name is to be on bytes.
        per_channel: one scale of the weight a filter; else one a layer.
        most: the greatest integer of a weight that was not trained as integers: 127, or 7.
    """

    def __init__(
        self,
        graph: fx.GraphModule,
        scales: Mapping[str, Scale],
        means: Mapping[str, Tensor],
        takes: Callable[[str], bool],
        per_channel: bool = True,
        most: int = 127,
    ) -> None:
        self.graph = graph
        self._most = most
        self._takes = takes
        self.per_channel = per_channel
        self.means = dict(means)
        self.scales = dict(scales)
        self._bytes: dict[fx.Node, fx.Node] = {}  # a float value's bytes
        self._floats: dict[fx.Node, fx.Node] = {}  # and back

    def run(self) -> int:
        """How many layers are on bytes now."""
        nodes = list(self.graph.graph.nodes)
        self._layers = {node for node in nodes if self._is_layer(node)}
        self._moves = self._movable(nodes)
        self._share_scales()
        connected = 0
        for node in nodes:
            if node in self._layers:
                self._layer(node)
            elif node in self._moves:
                self._move(node)
            elif self._is_linear(node):
                self._linear(node)
                connected += 1
        self.graph.graph.eliminate_dead_code()
        drop_unused_weights(self.graph)
        self.graph.recompile()
        return len(self._layers) + connected

    # --- which

    def layers(self) -> list[fx.Node]:
        """The convolutions and fully connected layers that will be on bytes."""
        nodes = self.graph.graph.nodes
        return [node for node in nodes if self._is_layer(node) or self._is_linear(node)]

    def _is_layer(self, node: fx.Node) -> bool:
        if node.target != CONV2D or weight_of(self.graph, node.args[WEIGHT]) is None:
            return False
        bias, residual = node.args[BIAS], node.args[RESIDUAL]
        images = [*_images(node), *([residual] if isinstance(residual, fx.Node) else [])]
        return (
            self._takes(layer_name(node))
            and node.meta["val"].dtype == torch.float32
            and all(each.name in self.scales for each in images)
            and len(self.means[images[0].name]) == images[0].meta["val"].shape[1]
            and (bias is None or weight_of(self.graph, bias) is not None)
        )

    def _is_linear(self, node: fx.Node) -> bool:
        if node.target != LINEAR or not isinstance(node.args[0], fx.Node):
            return False
        found = arguments(node)
        weight = weight_of(self.graph, found["weight"])
        return (
            weight is not None
            and weight.dim() == 2
            and weight.shape[1] <= MAX_K_UNSIGNED
            and (found["bias"] is None or weight_of(self.graph, found["bias"]) is not None)
            and self._takes(layer_name(node))
            and node.meta["val"].dtype == torch.float32
            and node.args[0].name in self.scales
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
        steps, scale_weight = self.rounded(node, weight)
        packed = pack_conv2d_int8(steps, groups)  # type: ignore[arg-type]
        lost = steps.float() * scale_weight.view(-1, 1, 1, 1) - weight
        bias = self._corrected(node, node.args[BIAS], lost, self.means[image.name])
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

    def _linear(self, node: fx.Node) -> None:
        found = arguments(node)
        rows, weight = found["input"], weight_of(self.graph, found["weight"])
        assert weight is not None
        filters = weight[:, :, None, None]
        steps, scale = self.rounded(node, filters)
        lost = steps.float() * scale.view(-1, 1, 1, 1) - filters
        bias = self._corrected(node, found["bias"], lost, self.means[rows.name])
        source, many = self.scales[rows.name], rows.meta["val"].dim() != 2
        fixed = (
            add_weight(self.graph, node, "packed", pack_int8(steps.flatten(1).t()).data),
            len(weight),
            *(
                add_weight(self.graph, node, name, value)
                for name, value in (
                    ("scale", torch.tensor([source.scale])),
                    ("scale", scale),
                    ("zero_point", torch.tensor([source.zero_point], dtype=torch.int32)),
                )
            ),
            bias,
            None,
            torch.float32,
        )
        call = self.graph.graph.call_function
        with self.graph.graph.inserting_before(node):
            read = self._as_bytes(rows, node)
            if many:
                read = call(_ATEN.reshape.default, (read, [-1, weight.shape[1]]))
            new = call(_OURS.int8_gemm.default, (read, *fixed))
            if many:
                sizes = [call(_ATEN.sym_size.int, (rows, i)) for i in range(_rank(rows) - 1)]
                new = call(_ATEN.reshape.default, (new, [*sizes, len(weight)]))
        new.meta = dict(node.meta)
        if node.name in self.scales:
            self.scales[new.name] = self.scales[node.name]
            self.means[new.name] = self.means[node.name]
        node.replace_all_uses_with(new)
        self.graph.graph.erase_node(node)

    def rounded(self, node: fx.Node, weight: Tensor) -> tuple[Tensor, Tensor]:
        """A layer's weight as int8, and float32 [O]: what a step of each filter stands for."""
        trained = node.meta.get(STEPS)
        if trained is not None:
            return symmetric(weight, trained)  # of which the greatest has the last step
        if self._most == 127 or not self.per_channel:
            return symmetric(weight, self._most, self.per_channel)
        return fitted(weight, self._most)

    def _corrected(self, node: fx.Node, held: object, lost: Tensor, mean: Tensor) -> fx.Node:
        """The layer's bias, less what the rounding of its weight adds on average."""
        bias, shift = weight_of(self.graph, held), lost_bias(lost, mean)
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
    if node.target == AVG_POOL:
        found = arguments(node)
        return not any(found["padding"]) and found["divisor_override"] is None
    return node.target in (MAX_POOL, CAT, DEPTH_TO_SPACE)


def _images(node: fx.Node) -> list[fx.Node]:
    """What a convolution, a pool or a concatenation reads."""
    first = node.args[0]
    every = first if isinstance(first, (list, tuple)) else [first]
    return [each for each in every if isinstance(each, fx.Node)]


def _rank(node: fx.Node) -> int:
    return int(node.meta["val"].dim())


def lost_bias(lost: Tensor, mean: Tensor) -> Tensor:
    """[O]: what the difference of a rounded weight [O, C / groups, kh, kw] adds on average.

    Args:
        lost: that difference.
        mean: [C], of the channels that it meets.
    """
    groups = len(mean) // lost.shape[1]
    means = mean.view(groups, 1, -1)  # the channels that the filters of each group read
    return (lost.sum((2, 3)).view(groups, -1, lost.shape[1]) * means).sum(2).flatten()


def drop_unused_weights(graph: fx.GraphModule) -> None:
    """What no node reads any more: the floats that were packed into bytes."""
    read = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    for name in [*dict(graph.named_parameters()), *dict(graph.named_buffers())]:
        if name not in read:
            owner, _, last = name.rpartition(".")
            delattr(graph.get_submodule(owner), last)
