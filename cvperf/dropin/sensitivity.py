"""``cvperf.sensitivity``: which layers of a model bear integers, and which do not."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from cvperf import engine
from cvperf.dropin.configs import Int8Config
from cvperf.errors import ArgumentError, describe
from cvperf.quant.quantise import Quantise
from cvperf.quant.quantiser import Quantiser
from cvperf.quant.sensitivity import LayerLoss, Loss, SensitivityReport, Trials, loss, mean

FEW = 8
"""Inputs that are measured on if none are named."""


def sensitivity(
    model: nn.Module, config: Int8Config, inputs: Iterable[Any] | None = None
) -> SensitivityReport:
    """What the model's answers lose by each of its layers on integers.

    Each layer is put on integers alone, all others in float, and the answers are compared with
    those of the model in float. The report prints as a table, and proposes which layers to leave in
    float so that the loss stays within a limit::

        config = cvperf.Int8Config(calibration=photos)
        report = cvperf.sensitivity(model, config)
        print(report)
        fast = cvperf.optimize(model, replace(config, skip=report.skip(0.005)))

    Args:
        model: float32, in evaluation mode; it is not changed.
        config: how it is to be put on integers; layers that it skips stay in float throughout. Its
            calibration inputs are read once, so give a list to use the configuration again.
        inputs: what to measure on, each a tensor or a tuple of the call's arguments, in the sizes
            of the calibration inputs; None for the first 8 of these.

    Returns:
        :class:`cvperf.quant.sensitivity.SensitivityReport`.

    Raises:
        ArgumentError: the model is in training mode, cannot be traced as a whole, or has no layer
            that could be on integers; there is no input, or inputs of several sizes.
        TypeError: an argument is of the wrong type.

    Complexity: for each input and layer one run of what follows the layer: half the layers' number
    of runs of the model for each input.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {describe(model)}")
    if not isinstance(config, Int8Config):
        raise TypeError(f"config must be an Int8Config, got {describe(config)}")
    if any(module.training for module in model.modules()):
        raise ArgumentError("model must be in evaluation mode. Call model.eval() first")
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        return _report(model, config, inputs)


def _report(
    model: nn.Module, config: Int8Config, inputs: Iterable[Any] | None
) -> SensitivityReport:
    captured, quantiser, seen = _calibrated(model, config)
    measured = seen if inputs is None else [_tensors(captured, each) for each in inputs]
    if not measured:
        raise ArgumentError("inputs must give at least one input to measure on, got none")
    graph = captured.graph
    scales, means = quantiser.prepare(graph)

    def quantise(graph: fx.GraphModule, skip: frozenset[str]) -> Quantise:
        def takes(name: str) -> bool:
            return name not in skip and config.takes(name)

        return Quantise(graph, scales, means, takes, config.per_channel, config.most)

    trials = Trials(quantise(graph, frozenset()))
    if not trials.layers:
        raise ArgumentError(
            f"model has no layer that could be on integers: {type(model).__name__} has no float32 "
            "convolution or linear of fixed weight, or config.skip leaves all of them out"
        )
    answers = engine.plan(copy.deepcopy(graph), engine.Weights(), measured[0])
    expected = [answers.run(tensors) for tensors in measured]

    def measure(skip: frozenset[str]) -> Loss:
        mixed = copy.deepcopy(graph)
        quantise(mixed, skip).run()
        plan = engine.plan(mixed, engine.Weights(), measured[0])
        return mean([loss(plan.run(measured[i]), each) for i, each in enumerate(expected)])

    losses, work = trials.losses(measured), sum(trials.work.values())
    layers = [
        LayerLoss(name, each, trials.work[name] / work, trials.weights[name])
        for name, each in losses.items()
    ]
    layers.sort(key=lambda layer: -layer.loss.square)
    return SensitivityReport(tuple(layers), measure(frozenset()), measure)


def _calibrated(
    model: nn.Module, config: Int8Config
) -> tuple[engine.Captured, Quantiser, list[list[Tensor]]]:
    """The fused graph, what occurs in it, and the first inputs."""
    captured: engine.Captured | None = None
    quantiser = Quantiser(config)
    first: list[list[Tensor]] = []
    for each in config.calibration:
        if captured is None:
            captured = _traced(model, _arguments(each))
        tensors = _tensors(captured, each)
        quantiser.observe(captured.graph, tensors)
        first += [tensors] if len(first) < FEW else []
    if captured is None:
        raise ArgumentError("Int8Config.calibration must give at least one input, got none")
    return captured, quantiser, first


def _traced(model: nn.Module, args: Sequence[Any]) -> engine.Captured:
    try:
        captured = engine.capture(model, args, {})
    except engine.CaptureError as error:
        raise ArgumentError(
            f"model cannot be traced as a whole ({error}), so that no layer can be measured by the "
            "model's answers. Ask for the parts of it that can"
        ) from error
    engine.fuse(captured.graph)
    return captured


def _tensors(captured: engine.Captured, inputs: Any) -> list[Tensor]:
    args = _arguments(inputs)
    if not captured.takes(args, {}):
        sizes = [describe(each) for each in pytree.tree_leaves(args)]
        raise ArgumentError(
            f"inputs must all have the sizes of the first calibration input, got {', '.join(sizes)}"
        )
    return [leaf for leaf in pytree.tree_leaves(args) if isinstance(leaf, Tensor)]


def _arguments(inputs: Any) -> tuple[Any, ...]:
    return inputs if isinstance(inputs, tuple) else (inputs,)
