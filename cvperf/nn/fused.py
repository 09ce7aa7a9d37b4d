"""Batch norms of a model and what follows them, run as one operation in training.

The model is traced once with torch.fx, as it is in training mode, and each chain of a batch norm, a
sum and an activation becomes one call of :func:`cvperf.ops.batch_norm`. The model stays the object
that it is, with its parameters, buffers and names: only its class is replaced by a subclass whose
``forward`` runs that graph. It does so while every part of the model that the graph has dissolved
is in training mode, and is the original's ``forward`` otherwise, since a trace knows one mode only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError

from cvperf.nn._chains import Chain, chains
from cvperf.ops import batch_norm
from cvperf.ops.batch_norm import activate

_UNTRACEABLE = (TraceError, RuntimeError, TypeError, ValueError, AttributeError)
"""What a model's own code raises where it asks a proxy for what only a tensor has."""

_SERVED = (torch.bfloat16, torch.float32)


@dataclass(frozen=True)
class TrainingFusion:
    """What :func:`fuse_for_training` did.

    Attributes:
        fused: the chains that are one operation now, such as ``"layer1.0.bn2 + add + relu"``.
        left: names of batch norms that stay as they are, and why.
    """

    fused: tuple[str, ...]
    left: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{len(self.fused)} batch norms fused, {len(self.left)} left as they are"]
        lines += [f"  fused {each}" for each in self.fused]
        return "\n".join(lines + [f"  left  {name}: {why}" for name, why in self.left.items()])


def fuse_for_training(model: nn.Module) -> TrainingFusion:
    """Let the batch norms of a model run with the sum and the activation behind them, in place.

    The answer, the gradients and the running statistics are those of the model, to rounding;
    parameters, buffers and their names stay. ``train()`` and ``eval()`` are minded at each call, of
    single batch norms too. On other devices than the CPU, in other dtypes than float32 and
    bfloat16, and in evaluation torch runs the parts of a chain. A model that cannot be traced is
    left, and its children are tried each by itself.

    A batch norm stays as it is if its answer is used elsewhere, if it or what follows has hooks,
    if it is called twice, or if an operation in place comes between. Hooks added later to modules
    inside the model do not run in training.

    Args:
        model: with layers of ``nn.BatchNorm2d``; changed in place. Its ``state_dict`` loads and
            saves as before, and copies of it are fused as well. To pickle a whole model, pickle it
            before.

    Returns:
        Which chains were fused, and which batch norms were left and why.

    Complexity: one symbolic trace.

    Example:
        >>> model = torchvision.models.resnet18().to(memory_format=torch.channels_last)
        >>> print(cvperf.nn.fuse_for_training(model))
    """
    fused: list[str] = []
    left: dict[str, str] = {}
    _fuse(model, "", fused, left)
    return TrainingFusion(tuple(fused), left)


def _fuse(module: nn.Module, name: str, fused: list[str], left: dict[str, str]) -> None:
    norms = [each for each, part in module.named_modules() if type(part) is nn.BatchNorm2d]
    if not norms:
        return
    if type(module) is nn.BatchNorm2d:
        left.setdefault(name, "it is called by code that cannot be traced")
        return
    try:
        graph = _traced(module)
    except _UNTRACEABLE as error:
        for each in norms:
            reason = str(error).partition("\n")[0]
            left[f"{name}.{each}".lstrip(".")] = f"{name or 'the model'} cannot be traced: {reason}"
        for child_name, child in module.named_children():
            _fuse(child, f"{name}.{child_name}".lstrip("."), fused, left)
        return
    reasons = dict.fromkeys(norms, "it is not called")
    for found in chains(graph, module):
        if isinstance(found, Chain):
            _replace(graph, found)
            fused.append(f"{name}.{found}".lstrip("."))
            reasons.pop(found.name, None)
        else:
            reasons[found[0]] = found[1]
    for each in norms:
        left.pop(f"{name}.{each}".lstrip("."), None)
    left.update({f"{name}.{each}".lstrip("."): why for each, why in reasons.items()})
    if len(reasons) < len(norms):
        _run_by(module, graph)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _stays_whole(m)


def _stays_whole(module: nn.Module) -> bool:
    """Whether a graph calls a module as it is: torch's layers, and modules with hooks."""
    ours = module.__module__.startswith("torch.nn") and not isinstance(module, nn.Sequential)
    return ours or bool(module._forward_hooks or module._forward_pre_hooks)


def _traced(module: nn.Module) -> fx.Graph:
    modes = {each: each.training for each in module.modules()}
    module.train()
    try:
        return _Tracer().trace(module)
    finally:
        for each, mode in modes.items():
            each.training = mode


def _replace(graph: fx.Graph, chain: Chain) -> None:
    """One call in place of a chain, where its last part stood."""
    last = chain.nodes[-1]
    with graph.inserting_before(last):
        norm = graph.get_attr(chain.name)
        call = graph.call_function(
            _normalised, (norm, chain.nodes[0].args[0], chain.residual, chain.activation)
        )
    last.replace_all_uses_with(call)
    for node in reversed(chain.nodes):
        graph.erase_node(node)


def _run_by(module: nn.Module, graph: fx.Graph) -> None:
    original: Any = type(module)
    traced = type(fx.GraphModule(module, graph)).forward

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        run = traced if all(each.training for each in _dissolved(self)) else original.forward
        return run(self, *args, **kwargs)

    module.__class__ = type(original.__name__, (original,), {"forward": forward})


def _dissolved(module: nn.Module) -> Iterator[nn.Module]:
    """The modules whose own code the graph of one stands for, itself included."""
    yield module
    for child in module.children():
        if not _stays_whole(child):
            yield from _dissolved(child)


def _normalised(
    norm: nn.BatchNorm2d, x: Tensor, residual: Tensor | None, activation: str | None
) -> Tensor:
    """What the layer, the sum and the activation give together, running statistics included."""
    batch = norm.training or norm.running_mean is None
    alike = residual is None or (
        isinstance(residual, Tensor) and residual.shape == x.shape and residual.dtype == x.dtype
    )
    if not (batch and alike and x.dim() == 4 and x.is_cpu and x.dtype in _SERVED):
        y = norm(x)
        return activate(activation, y if residual is None else y + residual)
    keeps = norm.training and norm.track_running_stats
    return batch_norm(
        x,
        norm.weight,
        norm.bias,
        norm.running_mean if keeps else None,
        norm.running_var if keeps else None,
        momentum=_count(norm) if keeps else 0.0,
        eps=norm.eps,
        activation=activation,
        residual=residual,
    )


def _count(norm: nn.BatchNorm2d) -> float:
    """Count this batch as the layer does; its share in the running statistics."""
    batches = norm.num_batches_tracked
    if batches is not None:
        batches.add_(1)
    if norm.momentum is not None:
        return norm.momentum
    return 0.0 if batches is None else 1.0 / float(batches)
