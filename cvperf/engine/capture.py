"""A model's forward pass as a graph of torch's own operators, weights inside."""

from __future__ import annotations

import contextlib
import inspect
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._dynamo.exc import TorchDynamoException
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils import _pytree as pytree

from cvperf.engine.conditions import Conditions, Expected, OpenSize, conditions_of


class CaptureError(RuntimeError):
    """The model cannot be traced as a whole."""


# torch.export runs the model's Python on tensors without values and lets out what that raises.
_UNTRACEABLE = (
    TorchDynamoException,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    AssertionError,
)


@dataclass(frozen=True, eq=False)
class Captured:
    """What :func:`capture` found.

    Attributes:
        graph: one placeholder for each tensor of the call in the order in which the call's
            arguments are flattened, ``get_attr`` for weights, a flat list of answers.
        structure: of the call's arguments, (args, kwargs).
        conditions: gives what must hold of their leaves. Asked anew each time: passes that compare
            open sizes add to it.
        answers: the structure of what the model returns.
    """

    graph: fx.GraphModule
    structure: pytree.TreeSpec
    conditions: Callable[[], Conditions]
    answers: pytree.TreeSpec

    def takes(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether the graph holds for such a call."""
        leaves, structure = pytree.tree_flatten((tuple(args), dict(kwargs)))
        return structure == self.structure and self.conditions().hold(leaves)


def capture(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    known: Sequence[Captured] = (),
) -> Captured:
    """Trace ``model(*args, **kwargs)`` by torch.export.

    Sizes are fixed, but for those in which the call differs from one that is known: these are left
    open where the model allows. (Leaving all open makes torch.export follow every comparison of
    sizes: minutes for a Swin Transformer.) A size of 0 or 1 is always taken as it is: torch gives
    these a meaning of their own.

    Args:
        model: in evaluation mode.
        args: of the call.
        kwargs: of the call.
        known: graphs that do not take this call.

    Raises:
        CaptureError: sizes or control flow depend on the values of tensors, or the model does what
            torch.export cannot trace.
    """
    with torch.inference_mode(False), torch.no_grad():
        return _captured(model, args, kwargs, known)


def _captured(
    model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], known: Sequence[Captured]
) -> Captured:
    # Of its own memory: about a view, torch.export writes down guards that it cannot read again.
    args, kwargs = pytree.tree_map_only(
        Tensor, lambda tensor: tensor.detach().clone(), (tuple(args), dict(kwargs))
    )
    sizes = _open_sizes(model, args, kwargs, known)
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            # It prints the graph that failed, and warns of what models do to their attributes.
            warnings.simplefilter("ignore")
            program = torch.export.export(
                model, tuple(args), dict(kwargs), dynamic_shapes=sizes, strict=False
            ).run_decompositions({})
    except _UNTRACEABLE as error:
        raise CaptureError(f"torch.export: {_first_line(error)}") from error
    _check_sizes(program.graph)
    # Weights become attributes of the graph; sizes are checked by takes().
    graph = program.module(check_guards=False)
    assert isinstance(graph, fx.GraphModule)
    graph.graph.set_codegen(fx.graph.CodeGen())
    _drop_checks(graph)
    graph.recompile()
    leaves, structure = pytree.tree_flatten((args, kwargs))
    holes = iter([node for node in graph.graph.nodes if node.op == "placeholder"])
    expected = tuple(
        next(holes).meta["val"] if isinstance(leaf, Tensor) else leaf for leaf in leaves
    )
    conditions = partial(conditions_of, expected)
    return Captured(graph, structure, conditions, program.call_spec.out_spec)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _open_sizes(
    model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], known: Sequence[Captured]
) -> Any:
    """By the parameters of ``forward``: the dimensions of each tensor that may vary."""
    leaves, structure = pytree.tree_flatten((args, kwargs))
    earlier = [each.conditions().leaves for each in known if each.structure == structure]
    dims = [_differing(leaf, [each[i] for each in earlier]) for i, leaf in enumerate(leaves)]
    args, kwargs = pytree.tree_unflatten(dims, structure)
    return dict(inspect.signature(model.forward).bind(*args, **kwargs).arguments)


def _differing(leaf: Any, earlier: Sequence[Any]) -> dict[int, Any] | None:
    if not isinstance(leaf, Tensor):
        return None
    like = [
        each.shape
        for each in earlier
        if isinstance(each, Expected) and len(each.shape) == leaf.dim()
    ]
    return {
        dim: torch.export.Dim.AUTO
        for dim in range(leaf.dim())
        if any(isinstance(shape[dim], OpenSize) or shape[dim] != leaf.shape[dim] for shape in like)
    }


def _check_sizes(graph: fx.Graph) -> None:
    """Refuse sizes that depend on the values of tensors: no plan can be made for them."""
    for node in graph.nodes:
        for leaf in pytree.tree_leaves(node.meta.get("val")):
            if isinstance(leaf, Tensor | torch.SymInt) and free_unbacked_symbols(leaf):
                raise CaptureError(f"the size of what {node.target} gives depends on values")


def _drop_checks(graph: fx.GraphModule) -> None:
    """Checks of sizes and dtypes, and arguments that are no tensors: takes() has seen to these."""
    for node in reversed(graph.graph.nodes):
        if node.target in ("_guards_fn", torch.ops.aten._assert_tensor_metadata.default):
            graph.graph.erase_node(node)
        elif node.op == "placeholder" and not isinstance(node.meta.get("val"), Tensor):
            node.replace_all_uses_with(None)
            graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
