"""Quantisation-aware training: a model that rounds in training what its plan will round.

The model is traced by torch.fx, so that its modules, their names and its training stay as they are.
Weights are rounded before batch norm: folding that into them changes what a step stands for, and no
integer. Images are rounded where a plan has them as bytes: what convolutions read, what they add
before their activation, and what pooling and concatenation connect with these, on one scale.
Gradients pass as if nothing had been rounded, but for values beyond the range.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from cvperf.errors import ArgumentError
from cvperf.quant.observe import BYTE

_F = nn.functional
_ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")
_IN_PLACE = (operator.iadd, "add_")
_MAX_POOLS = (nn.MaxPool2d, _F.max_pool2d, torch.max_pool2d)
_MEAN_POOLS = (nn.AvgPool2d, _F.avg_pool2d)
_CONCATENATIONS = (torch.cat, torch.concat, torch.concatenate)


class RoundedConv2d(nn.Conv2d):
    """A convolution whose weight is rounded, symmetrically, with one scale a filter.

    Made of a ``Conv2d``, whose parameters it has.

    Attributes:
        most: the greatest integer, 127 or 7.
    """

    most: int

    @classmethod
    def of(cls, layer: nn.Conv2d, most: int) -> RoundedConv2d:
        new = copy.copy(layer)
        new.__class__ = cls
        assert isinstance(new, RoundedConv2d)
        new.most = most
        return new

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, rounded(self.weight, self.most), self.bias)


def rounded(weight: Tensor, most: int) -> Tensor:
    """A weight [O, ...] on the steps -most to most, of which the greatest value gets the last."""
    scale = weight.detach().flatten(1).abs().amax(1).clamp(min=1e-12) / most
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -most, most)


class ImageRange(nn.Module):
    """The one scale of images that pooling and concatenation connect; rounds each to uint8.

    In training it follows their extremes by moving averages, torchao's, and takes the widest.

    Attributes:
        scale: float32 [1], NaN before the first training step.
        zero_point: int32 [1].
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, images: int) -> None:
        super().__init__()
        try:
            from torchao.quantization.pt2e import MovingAverageMinMaxObserver
        except ImportError as error:
            raise ImportError(
                "training for INT8 takes its observers from torchao: pip install 'cvperf[quant]'"
            ) from error
        self.observers = nn.ModuleList(
            MovingAverageMinMaxObserver(
                dtype=BYTE, quant_min=0, quant_max=255, qscheme=torch.per_tensor_affine
            )
            for _ in range(images)
        )
        self.register_buffer("scale", torch.full((1,), float("nan")))
        self.register_buffer("zero_point", torch.zeros(1, dtype=torch.int32))

    def forward(self, image: Tensor, which: int) -> Tensor:
        if self.training:
            with torch.no_grad():
                self._observe(image, which)
        elif not torch.compiler.is_compiling() and self.scale.isnan().any():
            raise ArgumentError(
                "no range of an image is known before the first training step: run one, or load a "
                "trained state"
            )
        return torch.fake_quantize_per_tensor_affine(image, self.scale, self.zero_point, 0, 255)

    def _observe(self, image: Tensor, which: int) -> None:
        self.observers[which](image)
        # An observer that saw nothing yet is at plus and minus infinity.
        seen = [each for each in self.observers if bool(torch.isfinite(each.min_val).all())]  # type: ignore[arg-type]
        least = torch.stack([each.min_val for each in seen]).min().clamp(max=0)  # type: ignore[misc]
        most = torch.stack([each.max_val for each in seen]).max().clamp(min=0)  # type: ignore[misc]
        scale = ((most - least) / 255).clamp(min=torch.finfo(torch.float32).eps)
        self.scale.copy_(scale)
        self.zero_point.copy_((-least / scale).round().clamp(0, 255))


def prepare(model: nn.Module, takes: Callable[[str], bool], most: int) -> fx.GraphModule:
    """A copy of the model that rounds.

    Args:
        model: any that torch.fx can trace.
        takes: whether the convolution of this name is to be on integers.
        most: the greatest integer of a weight.

    Raises:
        ArgumentError: torch.fx cannot trace it, or what it computes in training is not what it
            computes in evaluation, or it has no convolution to round.
    """
    traced = _traced(copy.deepcopy(model))
    layers = [
        node
        for node in traced.graph.nodes
        if node.op == "call_module"
        and type(traced.get_submodule(str(node.target))) is nn.Conv2d
        and takes(str(node.target))
    ]
    if not layers:
        raise ArgumentError(
            f"model has no torch.nn.Conv2d to be trained on integers: {type(model).__name__}, less "
            "the layers that the configuration skips"
        )
    _Images(traced, layers).round()
    for name in {str(node.target) for node in layers}:
        layer = traced.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)
        traced.set_submodule(name, RoundedConv2d.of(layer, most))
    traced.recompile()
    return traced


def is_prepared(model: nn.Module) -> bool:
    """Whether a model, or a part of it, was trained to be on integers."""
    return any(isinstance(module, ImageRange) for module in model.modules())


# --- the trace


class _Tracer(fx.Tracer):
    """Follows the code of modules that have a convolution in them; calls the others.

    What these do may depend on whether they are trained (batch norm, dropout, stochastic depth).
    """

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        inner = any(isinstance(each, nn.Conv2d) for each in m.modules())
        return isinstance(m, nn.Conv2d) or not inner


def _traced(model: nn.Module) -> fx.GraphModule:
    modes = {name: module.training for name, module in model.named_modules()}
    graphs = []
    for training in (False, True):
        model.train(training)
        try:
            graphs.append(_Tracer().trace(model))
        except _UNTRACEABLE as error:
            raise ArgumentError(
                f"torch.fx cannot trace model {type(model).__name__}: {error}. Prepare the part of "
                "it that holds the convolutions: model.part = cvperf.prepare_qat(model.part)"
            ) from error
    one, other = ([_outline(node) for node in graph.nodes] for graph in graphs)
    if one != other:
        differing = next((pair for pair in zip(one, other, strict=False) if pair[0] != pair[1]), "")
        raise ArgumentError(
            f"model {type(model).__name__} asks in its own code whether it is trained, which a "
            f"trace fixes: {differing}. Use modules that ask (nn.Dropout for functional.dropout), "
            "or prepare a part of it: model.part = cvperf.prepare_qat(model.part)"
        )
    found = fx.GraphModule(model, graphs[1])
    for name, module in found.named_modules():
        module.training = modes.get(name, modes[""])
    return found


# torch.fx runs the model's Python on stand-ins and lets out what that raises.
_UNTRACEABLE = (
    fx.proxy.TraceError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    NotImplementedError,
    AssertionError,
)


def _outline(node: fx.Node) -> tuple[str, ...]:
    return node.name, str(node.target), str(node.args), str(node.kwargs)


# --- where images are rounded


class _Images:
    """Finds the images that a plan has as bytes, and rounds them where they are read."""

    def __init__(self, graph: fx.GraphModule, layers: list[fx.Node]) -> None:
        self._graph = graph
        self._layers = set(layers)
        self._groups: dict[fx.Node, list[fx.Node]] = {}
        self._reads: dict[tuple[fx.Node, fx.Node], None] = {}  # (image, reader), in order

    def round(self) -> None:
        for node in list(self._graph.graph.nodes):
            if node in self._layers:
                self._read(node.args[0], node)
            elif self._is(node, _ADDITIONS):
                self._read_by_sum(node)
        self._insert()

    def _read_by_sum(self, node: fx.Node) -> None:
        """What a convolution adds on its way to memory: of two, the later one takes the other."""
        places = {each: i for i, each in enumerate(self._graph.graph.nodes)}
        images = [each for each in node.args[:2] if isinstance(each, fx.Node)]
        if len(images) != 2 or images[0] is images[1] or node.kwargs:
            return
        for layer, other in (images, images[::-1]):
            own, others = self._layer_of(layer), self._layer_of(other)
            if own is not None and (others is None or places[own] > places[others]):
                written = node.target in _IN_PLACE and node.args[0] is other
                if not (written and len(other.users) > 1):
                    self._read(other, node)
                return

    def _layer_of(self, node: Any) -> fx.Node | None:
        """The convolution whose sums a node gives but for a batch norm, and nobody else reads."""
        if not isinstance(node, fx.Node) or len(node.users) != 1:
            return None
        if node in self._layers:
            return node
        return self._layer_of(_first(node)) if self._is(node, (nn.BatchNorm2d,)) else None

    def _read(self, image: Any, reader: fx.Node) -> None:
        if not isinstance(image, fx.Node) or (image, reader) in self._reads:
            return
        if not self._moves(image):
            self._reads[image, reader] = None
            return
        for source in _images(image):
            self._join(image, source)
            self._read(source, image)
        if self._is(image, _MEAN_POOLS):
            self._reads[image, reader] = None  # means lie between the steps

    def _moves(self, node: fx.Node) -> bool:
        """Pooling or concatenation of what layers give, whole or in part."""
        if not self._is(node, (*_MAX_POOLS, *_MEAN_POOLS, *_CONCATENATIONS)):
            return False
        return any(self._given_by_layer(each) or self._moves(each) for each in _images(node))

    def _given_by_layer(self, node: Any) -> bool:
        """A convolution's image, with batch norm, a sum or an activation after it."""
        if not isinstance(node, fx.Node):
            return False
        if node in self._layers:
            return True
        if self._is(node, _ADDITIONS):
            return any(self._given_by_layer(each) for each in node.all_input_nodes)
        return self._is(node, _FINISHES) and self._given_by_layer(_first(node))

    def _join(self, one: fx.Node, other: fx.Node) -> None:
        """These two have the same scale."""
        members = list(
            {each: None for node in (one, other) for each in self._groups.get(node, [node])}
        )
        self._groups.update(dict.fromkeys(members, members))

    def _insert(self) -> None:
        ranges: dict[int, tuple[str, dict[fx.Node, int]]] = {}  # by the group's list
        for image, _ in self._reads:
            group = self._groups.setdefault(image, [image])
            _, members = ranges.setdefault(id(group), (f"image_ranges.{len(ranges)}", {}))
            members.setdefault(image, len(members))
        training = self._graph.training
        self._graph.add_submodule("image_ranges", nn.ModuleList().train(training))
        for name, members in ranges.values():
            self._graph.add_submodule(name, ImageRange(len(members)).train(training))
        for image, reader in self._reads:
            name, members = ranges[id(self._groups[image])]
            with self._graph.graph.inserting_before(reader):
                new = self._graph.graph.call_module(name, (image, members[image]))
            reader.replace_input_with(image, new)

    def _is(self, node: fx.Node, kinds: tuple[Any, ...]) -> bool:
        if node.op == "call_module":
            classes = tuple(each for each in kinds if isinstance(each, type))
            return isinstance(self._graph.get_submodule(str(node.target)), classes)
        return node.op in ("call_function", "call_method") and node.target in kinds


_FINISHES: tuple[Any, ...] = (
    *(nn.BatchNorm2d, nn.Identity, nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.Sigmoid),
    *(nn.Hardtanh, nn.LeakyReLU),
    *(_F.relu, _F.relu6, _F.silu, _F.hardswish, _F.leaky_relu, torch.relu, torch.sigmoid),
    *("relu", "relu_", "sigmoid", "sigmoid_"),
)


def _first(node: fx.Node) -> Any:
    return node.args[0] if node.args else None


def _images(node: fx.Node) -> list[fx.Node]:
    """What pooling or concatenation reads."""
    first = _first(node)
    every = first if isinstance(first, (list, tuple)) else [first]
    return [each for each in every if isinstance(each, fx.Node)]
