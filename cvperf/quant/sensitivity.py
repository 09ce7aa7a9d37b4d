"""What an answer loses by each layer on integers, and which few layers to leave in float.

A layer alone on integers is run in float with what it reads and its weight rounded to bytes: that
is what its kernel computes, but for the last bits. Only what follows the layer runs again. Losses
of different layers are next to independent, so that they add up; the plan that is chosen by their
sum is then run as it is and measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from cvperf.engine.passes.convolution import (
    CONV2D,
    GROUPS,
    INPUT,
    WEIGHT,
    arguments,
    weight_of,
)
from cvperf.engine.passes.layers import layer_name
from cvperf.ops._packed import pack_conv2d
from cvperf.ops.conv2d import conv2d
from cvperf.quant.observe import Scale
from cvperf.quant.quantise import Quantise, lost_bias


@dataclass(frozen=True)
class Loss:
    """How far answers are from those in float.

    Attributes:
        square: sum of the squared differences over the sum of the float answers' squares.
        cosine: of each answer with that in float, on average.
        divergence: Kullback and Leibler's, of the softmax from that in float, on average; None if
            the first answer is no matrix of logits.
    """

    square: float
    cosine: float
    divergence: float | None

    def __str__(self) -> str:
        divergence = "-" if self.divergence is None else f"{self.divergence:.1e}"
        return f"{self.square:9.1e}  {self.cosine:8.6f}  {divergence:>9}"


@dataclass(frozen=True)
class LayerLoss:
    """A layer alone on integers.

    Attributes:
        name: of the module; empty for what belongs to none.
        loss: what the answers lose.
        work: share of the products and sums of all layers that could be on integers.
        weights: numbers in its weight: one byte each on integers, four in float.
    """

    name: str
    loss: Loss
    work: float
    weights: int

    @property
    def cost(self) -> float:
        """Of leaving it in float. A layer of next to no work is not free: its neighbours pass on
        floats in place of bytes."""
        return self.work + 0.002


@dataclass(frozen=True)
class MixedPlan:
    """Some layers in float, so that the loss is within a limit.

    Attributes:
        skip: their names, for ``Int8Config(skip=...)``.
        loss: measured, all other layers on integers.
        float_work: share of the work that stays in float.
        extra_bytes: what their weights take more than on integers, without the further forms that
            float kernels pack them into.
    """

    skip: tuple[str, ...]
    loss: Loss
    float_work: float
    extra_bytes: int

    def __str__(self) -> str:
        return (
            f"{len(self.skip)} layers in float ({self.float_work:.1%} of the work, "
            f"{self.extra_bytes / 1e6:.2f} MB more): loss {self.loss.square:.1e}, cosine "
            f"{self.loss.cosine:.5f}\n  skip={self.skip!r}"
        )


@dataclass(frozen=True, eq=False)
class SensitivityReport:
    """What :func:`cvperf.sensitivity` found; printed, a table.

    Attributes:
        layers: the one that costs most accuracy first.
        whole: the loss with all of them on integers, measured.
    """

    layers: tuple[LayerLoss, ...]
    whole: Loss
    measure: Callable[[frozenset[str]], Loss]
    """The loss with these layers in float."""

    def mixed(self, loss: float) -> MixedPlan:
        """The layers to leave in float: those with most loss for their work, until it fits.

        Args:
            loss: the most that ``Loss.square`` may be; half of it is about what is missing to a
                cosine of 1.

        Complexity: some plans are made and run on the report's inputs, the logarithm of the
        number of layers.
        """
        order = sorted(self.layers, key=lambda layer: -layer.loss.square / layer.cost)
        low, high, found = 0, len(order), Loss(0.0, 1.0, 0.0)
        guess = self._expected(order, loss)
        while low < high:
            tried = self._measured(order[:guess])
            if tried.square <= loss:
                high, found = guess, tried
            else:
                low = guess + 1
            guess = (low + high) // 2
        if high == len(order):
            found = self._measured(order)
        chosen = order[:high]
        return MixedPlan(
            tuple(layer.name for layer in chosen),
            found,
            sum(layer.work for layer in chosen),
            3 * sum(layer.weights for layer in chosen),
        )

    def skip(self, loss: float) -> tuple[str, ...]:
        """``mixed(loss).skip``."""
        return self.mixed(loss).skip

    def _measured(self, layers: Sequence[LayerLoss]) -> Loss:
        return self.measure(frozenset(layer.name for layer in layers)) if layers else self.whole

    def _expected(self, order: Sequence[LayerLoss], loss: float) -> int:
        """How many must stay in float if losses add up; one less than all, so as to be tried."""
        rest = self.whole.square
        for count, layer in enumerate(order[:-1]):
            if rest <= loss:
                return count
            rest -= layer.loss.square
        return max(len(order) - 1, 0)

    def __str__(self) -> str:
        width = max([len("all of them"), *(len(layer.name) for layer in self.layers)])
        lines = [f"{'layer':{width}}  {'loss':>9}  {'cosine':>8}  {'KL':>9}  {'work':>6}  weights"]
        lines += [
            f"{layer.name:{width}}  {layer.loss}  {layer.work:6.1%}  {layer.weights / 1e6:6.3f} M"
            for layer in self.layers
        ]
        return "\n".join([*lines, f"{'all of them':{width}}  {self.whole}"])


class Trials:
    """Runs a graph in float, and again with a layer as its integers would have it.

    Args:
        quantise: of a fused graph that is not rewritten.
    """

    def __init__(self, quantise: Quantise) -> None:
        self.graph = quantise.graph
        self._quantise = quantise
        self._packed: dict[tuple[fx.Node, bool], tuple[Any, Tensor | None]] = {}
        self.layers: dict[str, list[fx.Node]] = {}
        for node in quantise.layers():
            self.layers.setdefault(layer_name(node), []).append(node)
        self.work = {name: sum(map(_work, nodes)) for name, nodes in self.layers.items()}
        self.weights = {name: sum(map(self._size, nodes)) for name, nodes in self.layers.items()}

    def losses(self, inputs: Sequence[Sequence[Tensor]]) -> dict[str, Loss]:
        """Of each layer alone on integers."""
        found: dict[str, list[Loss]] = {name: [] for name in self.layers}
        for tensors in inputs:
            values, answers = self._run(tensors)
            for name, nodes in self.layers.items():
                found[name].append(loss(self._again(values, set(nodes)), answers))
        return {name: mean(each) for name, each in found.items()}

    def _run(self, inputs: Sequence[Tensor]) -> tuple[dict[fx.Node, Any], list[Any]]:
        """Every value in float, and the answers."""
        values: dict[fx.Node, Any] = {}
        waiting = iter(inputs)
        for node in self.graph.graph.nodes:
            if node.op == "placeholder":
                values[node] = next(waiting)
            elif node.op == "output":
                return values, list(fx.map_arg(node.args[0], values.__getitem__))
            else:
                values[node] = self._value(node, values, False)
        raise AssertionError("a graph ends with its answers")

    def _again(self, values: Mapping[fx.Node, Any], layers: set[fx.Node]) -> list[Any]:
        """The answers with these layers on integers."""
        changed = dict(values)
        touched: set[fx.Node] = set()
        for node in self.graph.graph.nodes:
            if node.op == "output":
                return list(fx.map_arg(node.args[0], changed.__getitem__))
            if node in layers or touched.intersection(node.all_input_nodes):
                changed[node] = self._value(node, changed, node in layers)
                touched.add(node)
        raise AssertionError("a graph ends with its answers")

    def _value(self, node: fx.Node, values: Mapping[fx.Node, Any], on_bytes: bool) -> Any:
        if node.op == "get_attr":
            return _attribute(self.graph, str(node.target))
        call: Any = fx.map_arg((node.args, node.kwargs), values.__getitem__)
        args, kwargs = list(call[0]), call[1]
        if on_bytes:
            source = node.args[INPUT]
            assert isinstance(source, fx.Node)
            args[INPUT] = rounded(args[INPUT], self._quantise.scales[source.name])
        if node.target == CONV2D and weight_of(self.graph, node.args[WEIGHT]) is not None:
            weight, bias = self._weight(node, on_bytes)
            image, window, (activation, residual) = args[INPUT], args[3:7], args[7:9]
            return conv2d(image, weight, bias, *window, activation=activation, residual=residual)
        if on_bytes:
            return torch.nn.functional.linear(args[INPUT], *self._weight(node, True))
        assert callable(node.target)
        return node.target(*args, **kwargs)

    def _weight(self, node: fx.Node, on_bytes: bool) -> tuple[Any, Tensor | None]:
        """A layer's weight and bias as its kernel reads them."""
        key = (node, on_bytes)
        if key not in self._packed:
            found = arguments(node)
            weight, bias = (weight_of(self.graph, found[name]) for name in ("weight", "bias"))
            assert weight is not None
            if on_bytes:
                weight, bias = self._as_bytes(node, weight, bias)
            is_image = node.target == CONV2D
            groups = int(node.args[GROUPS]) if is_image else 1  # type: ignore[arg-type]
            self._packed[key] = (pack_conv2d(weight, groups) if is_image else weight), bias
        return self._packed[key]

    def _as_bytes(
        self, node: fx.Node, weight: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What a layer's weight rounded to bytes stands for, and its bias with the correction."""
        source = node.args[INPUT]
        assert isinstance(source, fx.Node)
        filters = weight if weight.dim() == 4 else weight[:, :, None, None]
        steps, scale = self._quantise.rounded(node, filters)
        stands_for = steps.float() * scale.view(-1, 1, 1, 1)
        shift = lost_bias(stands_for - filters, self._quantise.means[source.name])
        return stands_for.view(weight.shape), -shift if bias is None else bias - shift

    def _size(self, node: fx.Node) -> int:
        weight = weight_of(self.graph, arguments(node)["weight"])
        assert weight is not None
        return weight.numel()


def loss(answers: Sequence[Any], expected: Sequence[Any]) -> Loss:
    """Of all floating answers together."""
    pairs = [
        (one.double(), other.double())
        for one, other in zip(answers, expected, strict=True)
        if isinstance(other, Tensor) and other.is_floating_point() and other.numel()
    ]
    lost = sum(float((one - other).square().sum()) for one, other in pairs)
    whole = sum(float(other.square().sum()) for _, other in pairs)
    cosines = [
        torch.cosine_similarity(_rows(one), _rows(other), dim=1).mean() for one, other in pairs
    ]
    divergence = None
    if pairs and pairs[0][0].dim() == 2:
        one, other = (each.log_softmax(1) for each in pairs[0])
        divergence = float((other.exp() * (other - one)).sum(1).mean())
    cosine = float(torch.stack(cosines).mean()) if cosines else 1.0
    return Loss(lost / whole if whole else 0.0, cosine, divergence)


def mean(losses: Sequence[Loss]) -> Loss:
    """Over inputs."""
    count = len(losses)
    divergences = [each.divergence for each in losses if each.divergence is not None]
    return Loss(
        sum(each.square for each in losses) / count,
        sum(each.cosine for each in losses) / count,
        sum(divergences) / count if len(divergences) == count else None,
    )


def rounded(value: Tensor, scale: Scale) -> Tensor:
    """To what a byte can stand for."""
    steps = (value * (1 / scale.scale)).round_().add_(scale.zero_point).clamp_(0, 255)
    return steps.sub_(scale.zero_point).mul_(scale.scale)


def _rows(answer: Tensor) -> Tensor:
    """One for each example of the batch."""
    return answer.reshape(len(answer) if answer.dim() > 1 else 1, -1)


def _work(node: fx.Node) -> int:
    """Products of a layer at the sizes that it was traced with."""
    weight = arguments(node)["weight"].meta["val"]
    answer = node.meta["val"]
    pixels = answer.numel() // weight.shape[0]
    return int(pixels) * int(weight.numel())


def _attribute(graph: fx.GraphModule, name: str) -> Any:
    value: Any = graph
    for part in name.split("."):
        value = getattr(value, part)
    return value
