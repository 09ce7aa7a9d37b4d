"""``cvperf.optimize``: a model you did not write, with the same call, faster."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from cvperf import _C, engine
from cvperf.dropin.configs import Bf16Config, FusionConfig, Int8Config, WeightOnlyConfig
from cvperf.dropin.detectors import with_our_kernels
from cvperf.dropin.layers import Layers, named_out
from cvperf.dropin.switch import use
from cvperf.engine.explanation import PlanExplanation, explain_plan
from cvperf.errors import ArgumentError, describe
from cvperf.quant.qat import is_prepared
from cvperf.quant.quantiser import Quantiser
from cvperf.quant.weight_only import narrow_weights

MOST_CAPTURES = 8
"""A module that must be traced anew for every input is not worth tracing: after so many it runs as
it is."""


def optimize(
    model: nn.Module,
    config: FusionConfig | None = None,
    example_inputs: Any = None,
    *,
    filter_fn: Callable[[nn.Module, str], bool] | None = None,
) -> OptimizedModel:
    """A module with the same call as ``model``, for inference, faster.

    It is traced by torch.export, batch norm is folded, activations and sums are computed by the
    convolution before them, images stay channels-last, weights are packed once, and what comes
    out is a flat list of kernels' calls on one block of memory. What no kernel of ours serves runs
    as torch's operator. A model that cannot be traced as a whole is split: its children are
    optimised each by itself, and what is between them runs as it is, with torchvision's NMS and
    RoI Align on our kernels. ``explain()`` of the result says who runs what.

    Args:
        model: in evaluation mode; it is not changed, and later changes to its weights are not seen.
        config: :class:`FusionConfig` (the model's dtype, the default), :class:`Bf16Config`,
            :class:`Int8Config` or :class:`WeightOnlyConfig`.
        example_inputs: a tensor or a tuple of the call's arguments, to trace now; None traces at
            the first call. A second size makes a trace for all sizes.
        filter_fn: asked once now for every module of the model, with the module and its name
            within the model, whether ``config`` is meant for it; None for all. An operator belongs
            to the innermost module that calls it; what a convolution takes in (batch norm,
            activation, sum) to the convolution. What the other modules do stays float32 with
            :class:`Bf16Config`; their convolutions stay float32 with :class:`Int8Config`, as with
            its ``skip``; with :class:`FusionConfig` their convolutions and fully connected layers
            run as torch's operators. Only the answers are kept, so that a lambda does not
            keep the result from being copied or pickled.

    Returns:
        An :class:`OptimizedModel`. Its answers have no gradient, and it computes in the model's
        dtype also under ``torch.autocast``.

    Raises:
        ArgumentError: the model is in training mode, or there is nothing to calibrate with.
        ImportError: INT8, and torchao is not installed.
        TypeError: an argument is of the wrong type.

    Example:
        >>> fast = cvperf.optimize(model.eval(), example_inputs=image)
        >>> logits = fast(image)
        >>> print(fast.explain())
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {describe(model)}")
    if config is not None and not isinstance(config, FusionConfig):
        raise TypeError(f"config must be a FusionConfig or None, got {describe(config)}")
    if filter_fn is not None and not callable(filter_fn):
        raise TypeError(
            f"filter_fn must be a function of a module and its name, got {describe(filter_fn)}"
        )
    if any(module.training for module in model.modules()):
        raise ArgumentError(
            "model must be in evaluation mode: an optimised model is for inference. Call "
            "model.eval() first"
        )
    left_out = frozenset() if filter_fn is None else named_out(model, filter_fn)
    optimized = OptimizedModel(model, config or FusionConfig(), "", left_out)
    if isinstance(config, Int8Config):
        optimized.calibrate(config.calibration, is_needed=not is_prepared(model))
    if example_inputs is not None:
        optimized(*_arguments(example_inputs))
    return optimized


class OptimizedModel(nn.Module):
    """What :func:`optimize` returns: called as the model it was made of.

    Attributes:
        original: that model.
    """

    def __init__(
        self,
        model: nn.Module,
        config: FusionConfig,
        name: str = "",
        left_out: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.__dict__["original"] = model  # not a child: nothing of it is to be found twice
        self._config = config.without_inputs() if isinstance(config, Int8Config) else config
        self._name = name
        self._layers = Layers(self._config, name, left_out)
        self._weights = engine.Weights()
        self._captured: list[engine.Captured] = []
        self._plans: OrderedDict[Any, tuple[engine.Captured, engine.Plan]] = OrderedDict()
        self._lock = threading.RLock()
        self._split: nn.Module | None = None
        self._why = ""
        self._quantiser = Quantiser(self._layers) if isinstance(config, Int8Config) else None
        self.training = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        leaves, structure = pytree.tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        _check(tensors)
        if self._split is not None:
            return self._run_split(args, kwargs)
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            if self._quantiser is not None and self._quantiser.is_observing:
                return self._observe(self._quantiser, args, kwargs, tensors)
            found = self._find(_key(leaves, structure), args, kwargs, tensors)
            if found is None:
                return self._run_split(args, kwargs)
            captured, plan = found
            return pytree.tree_unflatten(plan.run(tensors), captured.answers)

    def calibrate(self, inputs: Iterable[Any], is_needed: bool = True) -> None:
        """Run these inputs in float, and choose the ranges of INT8 by what occurs.

        Raises:
            ArgumentError: there is none, and it is needed: the model was not trained for INT8.
        """
        count = 0
        for each in inputs:
            self(*_arguments(each))
            count += 1
        if count == 0 and is_needed:
            raise ArgumentError(
                "Int8Config.calibration must give at least one input, got none. A list of a "
                "hundred typical ones is plenty"
            )
        self._end_calibration()

    def _end_calibration(self) -> None:
        assert self._quantiser is not None
        self._quantiser.is_observing = False
        for part in _parts(self._split) if self._split is not None else ():
            part._end_calibration()

    def _observe(
        self, quantiser: Quantiser, args: Any, kwargs: Any, tensors: Sequence[Tensor]
    ) -> Any:
        with self._lock:
            captured = self._graph_for(args, kwargs, tensors)
        if captured is None:
            return self._run_split(args, kwargs)
        return pytree.tree_unflatten(quantiser.observe(captured.graph, tensors), captured.answers)

    def explain(self) -> ModelExplanation:
        """Who runs what, and why."""
        parts = () if self._split is None else tuple(_parts(self._split))
        return ModelExplanation(
            self._name,
            self._kind(),
            tuple(explain_plan(plan) for _, plan in self._plans.values()),
            self._why,
            tuple(part.explain() for part in parts),
        )

    def _kind(self) -> str:
        return type(self.original).__name__

    def train(self, mode: bool = True) -> OptimizedModel:
        if mode:
            raise ArgumentError(
                "an optimised model is for inference; train the model it was made of and "
                "optimise that again"
            )
        return self

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> OptimizedModel:
        raise ArgumentError(
            "an optimised model stays on the device and in the dtype that it was made in; move the "
            "model it was made of and optimise that again"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are traced anew; what calibration and splitting found is kept."""
        state = {name: self.__dict__[name] for name in ("_quantiser", "_why")}
        made_of = (self.original, self._config, self._name, self._layers.left_out)
        return OptimizedModel, made_of, (state, self._split)

    def __setstate__(self, state: tuple[dict[str, Any], nn.Module | None]) -> None:
        self.__dict__.update(state[0])
        self._split = state[1]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__"):  # Python asks how to copy this, not the original
                raise
            return getattr(self.__dict__["original"], name)

    # --- plans

    def _find(
        self, key: Any, args: Any, kwargs: Any, tensors: Sequence[Tensor]
    ) -> tuple[engine.Captured, engine.Plan] | None:
        """The plan for such a call; None if the model cannot be traced."""
        with self._lock:
            if key in self._plans:
                self._plans.move_to_end(key)
                return self._plans[key]
            captured = self._graph_for(args, kwargs, tensors)
            if captured is None:
                return None
            self._quantise(captured)
            try:
                plan = engine.plan(captured.graph, self._weights, tensors)
            except engine.CaptureError as error:
                self._give_up(str(error))
                return None
            self._plans[key] = (captured, plan)
            while len(self._plans) > self._config.plans:
                self._plans.popitem(last=False)
            return captured, plan

    def _graph_for(
        self, args: Any, kwargs: Mapping[str, Any], tensors: Sequence[Tensor]
    ) -> engine.Captured | None:
        for known in self._captured:
            if known.takes(args, kwargs):
                return known
        return self._trace(args, kwargs, tensors)

    def _trace(
        self, args: Any, kwargs: Mapping[str, Any], tensors: Sequence[Tensor]
    ) -> engine.Captured | None:
        """A new graph, for such a call; None if there cannot be one."""
        if len(self._captured) == MOST_CAPTURES:
            self._give_up(f"{MOST_CAPTURES} inputs in a row each needed a graph of their own")
            return None
        if not tensors or any(tensor.device.type != "cpu" for tensor in tensors):
            self._give_up("it was called without a tensor on the CPU")
            return None
        try:
            captured = engine.capture(self.original, args, kwargs, self._captured)
        except engine.CaptureError as error:
            self._give_up(str(error))
            return None
        if type(self._config) is FusionConfig:
            engine.leave_layers(captured.graph, self._layers.takes)
        engine.fuse(captured.graph)
        if isinstance(self._config, Bf16Config):
            engine.compute_in(captured.graph, torch.bfloat16, self._layers.takes)
        if isinstance(self._config, WeightOnlyConfig):
            asked = self._config
            takes = self._layers.takes
            narrow_weights(captured.graph, asked.bits, asked.group_size, asked.dtype, takes)
        self._captured.append(captured)
        return captured

    def _quantise(self, captured: engine.Captured) -> None:
        if self._quantiser is not None:
            self._quantiser.quantise(captured.graph)

    # --- without a plan

    def _give_up(self, why: str) -> None:
        self._why = why
        self._split = _with_parts(self.original, self._config, self._name, self._layers.left_out)
        self._plans.clear()
        self._captured.clear()
        if self._quantiser is not None and not self._quantiser.is_observing:
            self._end_calibration()

    def _run_split(self, args: Any, kwargs: Any) -> Any:
        assert self._split is not None
        if self._name:
            return self._split(*args, **kwargs)
        with (
            torch.no_grad(),
            torch.autocast("cpu", enabled=False),
            use("nms", "roi_align", "roi_pool"),
        ):
            return self._split(*args, **kwargs)


@dataclass(frozen=True)
class ModelExplanation:
    """Of an optimised model or a part of it.

    Attributes:
        name: of the part within the model; empty for the whole.
        kind: its class.
        plans: one for each size of input that is ready.
        why: why it has none and runs as it is, but for its parts; empty if it has.
        parts: of a model that was split.
    """

    name: str
    kind: str
    plans: tuple[PlanExplanation, ...]
    why: str
    parts: tuple[ModelExplanation, ...]

    def __str__(self) -> str:
        title = f"{self.name or 'model'} ({self.kind})"
        lines = [f"{title}: as it is, because {self.why}" if self.why else title]
        lines += [str(plan) for plan in self.plans]
        lines += [str(part) for part in self.parts if part.plans or part.why]
        return "\n".join(lines)


# --- a model in parts


def _with_parts(
    model: nn.Module, config: FusionConfig, name: str, left_out: frozenset[str]
) -> nn.Module:
    """A copy of the module whose children are optimised; weights are shared."""
    twin = copy.copy(with_our_kernels(model))
    twin.__dict__["_modules"] = {
        child_name: None
        if child is None
        else _part(child, config, f"{name}.{child_name}".lstrip("."), left_out)
        for child_name, child in twin._modules.items()
    }
    return twin


def _part(child: nn.Module, config: FusionConfig, name: str, left_out: frozenset[str]) -> nn.Module:
    if type(child).forward is nn.Module.forward or isinstance(
        child, (nn.ModuleList, nn.ModuleDict)
    ):
        return _with_parts(child, config, name, left_out)  # a container: its items are called
    if next(child.parameters(), None) is None and next(child.buffers(), None) is None:
        return with_our_kernels(child)
    return OptimizedModel(child, config, name, left_out)


def _parts(module: nn.Module) -> list[OptimizedModel]:
    found: list[OptimizedModel] = []
    for child in module.children():
        found += [child] if isinstance(child, OptimizedModel) else _parts(child)
    return found


# --- a call


def _arguments(inputs: Any) -> tuple[Any, ...]:
    return inputs if isinstance(inputs, tuple) else (inputs,)


def _check(tensors: Sequence[Tensor]) -> None:
    if torch.is_grad_enabled():
        for tensor in tensors:
            if tensor.requires_grad:
                raise ArgumentError(
                    f"an optimised model has no gradient, but an input requires one: "
                    f"{describe(tensor)}. Call it under torch.no_grad(), or with tensor.detach()"
                )


def _key(leaves: Sequence[Any], structure: pytree.TreeSpec) -> Any:
    """What a plan depends on."""
    return (
        structure,
        _C.isa(),
        tuple(
            (leaf.shape, leaf.stride(), leaf.dtype, leaf.device)
            if isinstance(leaf, Tensor)
            else leaf
            for leaf in leaves
        ),
    )
