"""From a graph to a program: each operator at the sizes of one input becomes a kernel's call.

The graph is run on torch's meta device, whose tensors have sizes and strides but no memory. Images
are kept channels-last and everything else contiguous; operators that only look at a tensor
otherwise (view, permute, slice) cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from cvperf.engine.capture import CaptureError
from cvperf.engine.passes.layers import is_left
from cvperf.engine.steps import Buffer, NativeStep, Program, TorchStep, Value
from cvperf.engine.weights import Weights
from cvperf.errors import ArgumentError, UnsupportedError

Lowering = Callable[..., Any]
"""Takes the Lower and an operator's arguments, tensors as Values; NotImplemented if it declines."""

LOWERINGS: dict[Any, Lowering] = {}

_ATEN = torch.ops.aten
_OF_SIZES = {
    *(_ATEN.new_zeros.default, _ATEN.new_ones.default, _ATEN.new_full.default),
    *(_ATEN.zeros_like.default, _ATEN.ones_like.default, _ATEN.full_like.default),
}
"""Operators that read of a tensor nothing but its size."""

_MOST_CONSTANT_BYTES = 1 << 22
"""What is computed once for a plan is kept: larger tensors are made in each run."""


def lowers(*targets: Any) -> Callable[[Lowering], Lowering]:
    """Registers how operators become steps."""

    def register(function: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(targets, function))
        return function

    return register


class Lower(fx.Interpreter):
    """Runs the graph on sizes, and writes down the steps."""

    def __init__(self, graph: fx.GraphModule, weights: Weights) -> None:
        super().__init__(graph)
        self.weights = weights
        self.program = Program()
        self._computed: set[Buffer] = set()
        self._is_left = False  # whether the operator at hand is to run as torch's

    def lower(self, inputs: Sequence[Tensor]) -> Program:
        """The program for inputs of these sizes, strides and dtypes."""
        values = [self.program.slot(_like(tensor)) for tensor in inputs]
        self.program.inputs = values
        last = any(value.is_channels_last() for value in values)
        for answer in self.run(*values):
            self.program.outputs.append(self._answer(answer, last))
        return self.program

    def _answer(self, answer: Any, channels_last: bool) -> Any:
        """As torch would lay it out: images contiguous unless one came channels-last; and a tensor
        that the caller may write to."""
        if isinstance(answer, Value) and answer.buffer in self._computed:
            answer = self.torch(_ATEN.clone.default, (answer,), {})
        if not isinstance(answer, Value) or answer.meta.dim() != 4:
            return answer
        return answer if channels_last else self.contiguous(answer)

    # --- fx.Interpreter

    def run_node(self, n: fx.Node) -> Any:
        self._is_left = is_left(n)
        return super().run_node(n)

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        found = self.fetch_attr(target)
        return self.program.fixed(found.detach()) if isinstance(found, Tensor) else found

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if not hasattr(target, "_schema"):
            return target(*args, **kwargs)  # arithmetic on sizes, one of several answers
        result = self.constant(target, args, kwargs)
        if result is NotImplemented:
            result = self.ours(target, args, kwargs)
        if result is not NotImplemented:
            return result
        if _is_view(target):
            return self.view(target, args, kwargs)
        if not any("Tensor" in str(each.type) for each in target._schema.returns):
            return target(*_metas(args), **_metas(kwargs))  # a size
        return self.torch(target, args, kwargs)

    def constant(self, target: Any, args: Any, kwargs: Any) -> Any:
        """The operator's result where it depends on weights and sizes alone, as the mask of a
        shifted window does; NotImplemented where not."""
        values = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Value)]
        if target in _OF_SIZES:
            tensors = {value: value.meta for value in values}
        elif all(value.buffer.tensor is not None for value in values):
            tensors = {value: _fixed_tensor(value) for value in values}
        else:
            return NotImplemented
        if _is_view(target) or not _is_pure(target):
            return NotImplemented
        try:
            metas = pytree.tree_leaves(target(*_metas(args), **_metas(kwargs)))
        except (NotImplementedError, RuntimeError):  # sizes that depend on values
            return NotImplemented
        if any(not isinstance(meta, Tensor) for meta in metas) or (
            sum(meta.nbytes for meta in metas) > _MOST_CONSTANT_BYTES
        ):
            return NotImplemented
        args, kwargs = pytree.tree_map_only(Value, lambda each: tensors[each], (args, kwargs))
        if target in _OF_SIZES:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        return pytree.tree_map_only(Tensor, self._computed_once, target(*args, **kwargs))

    def _computed_once(self, tensor: Tensor) -> Value:
        value = self.program.fixed(tensor)
        self._computed.add(value.buffer)
        return value

    def ours(self, target: Any, args: Any, kwargs: Any) -> Any:
        """The operator by our kernels; NotImplemented if there is none for it."""
        lowering = None if self._is_left else LOWERINGS.get(target)
        if lowering is None:
            return NotImplemented
        known = len(self.program.steps)
        try:
            return lowering(self, *args, **kwargs)
        except (UnsupportedError, ArgumentError):  # a dtype or a geometry that no kernel takes
            del self.program.steps[known:]
            return NotImplemented

    # --- what lowerings are written with

    def native(
        self,
        name: str,
        call: Any,
        read: Sequence[Value | None],
        output: Value,
        work: int = 0,
    ) -> Value:
        """A step of ours."""
        self.program.steps.append(NativeStep(name, call, tuple(read), output, work))
        return output

    def fixed(self, tensor: Tensor | None) -> Value | None:
        """A tensor that is always the same, None for none."""
        return None if tensor is None else self.program.fixed(tensor)

    def view(self, target: Any, args: Any, kwargs: Any) -> Any:
        """The operator on sizes alone; on a copy where the memory's order does not allow it."""
        source = args[0]
        try:
            result = target(*_metas(args), **_metas(kwargs))
        except RuntimeError:
            if source.meta.is_contiguous():
                raise
            source = self.contiguous(source)
            result = target(source.meta, *_metas(args[1:]), **_metas(kwargs))
        if any(meta.dtype != source.dtype for meta in pytree.tree_leaves(result)):
            return self.torch(target, args, kwargs)
        return pytree.tree_map_only(Tensor, lambda meta: Value(meta, source.buffer), result)

    def contiguous(self, value: Value) -> Value:
        """The value with its last dimension innermost."""
        return self.formatted(value, torch.contiguous_format)

    def formatted(self, value: Value, format: torch.memory_format) -> Value:
        """The value, dense and in this order; a copy if it is not."""
        if value.meta.is_contiguous(memory_format=format):
            return value
        clone = torch.ops.aten.clone.default
        result: Value = self.call_function(clone, (value,), {"memory_format": format})
        return result

    def image(self, value: Value) -> Value:
        """The value as an image whose channels come last."""
        return self.formatted(value, torch.channels_last)

    def torch(self, target: Any, args: Any, kwargs: Any) -> Any:
        """A step of torch's."""
        try:
            with FlopCounterMode(display=False) as counter:
                metas = target(*_metas(args), **_metas(kwargs))
        except (NotImplementedError, RuntimeError) as error:
            raise CaptureError(f"the sizes of {_name(target)} are not known ahead") from error
        outputs: list[Value] = []

        def slot(meta: Tensor) -> Value:
            outputs.append(self.program.slot(meta))
            return outputs[-1]

        result = pytree.tree_map_only(Tensor, slot, metas)
        leaves = pytree.tree_leaves((args, kwargs))
        read = tuple(leaf for leaf in leaves if isinstance(leaf, Value))
        work = counter.get_total_flops()
        step = TorchStep(_name(target), target, args, kwargs, read, tuple(outputs), work)
        self.program.steps.append(step)
        return result


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _fixed_tensor(value: Value) -> Tensor:
    base, meta = value.buffer.tensor, value.meta
    assert base is not None
    start = base.storage_offset() + int(meta.storage_offset())
    return base.as_strided(meta.size(), meta.stride(), start)


def _is_pure(target: Any) -> bool:
    """Whether an operator gives the same for the same arguments and changes none of them."""
    return not target._schema.is_mutable and torch.Tag.nondeterministic_seeded not in target.tags


def _metas(tree: Any) -> Any:
    def meta(leaf: Any) -> Any:
        if isinstance(leaf, Value):
            return leaf.meta
        return torch.device("meta") if isinstance(leaf, torch.device) else leaf

    return pytree.tree_map(meta, tree)


def _name(target: Any) -> str:
    return target.name().removesuffix(".default") if hasattr(target, "name") else target.__name__


def _is_view(target: Any) -> bool:
    """Whether what an operator gives shares memory with its first argument and writes nothing."""
    schema = target._schema
    if not schema.arguments:
        return False
    alias = schema.arguments[0].alias_info
    return alias is not None and not alias.is_write and not schema.is_mutable
