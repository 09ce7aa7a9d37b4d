"""A program with its memory laid out, ready to run."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from cvperf import _C
from cvperf.backends.cpu.memory import empty
from cvperf.engine.arena import Lifetime, place
from cvperf.engine.steps import Buffer, NativeStep, Program, TorchStep, Value

_ARENA, _FIRST_SLOT = 1, 2  # bases of _C.Plan


@dataclass(eq=False)
class _Memory:
    """What one run of a plan works on, and the next uses again."""

    arena: Tensor
    views: dict[Value, Tensor] = field(default_factory=dict)


class Plan:
    """Runs a program.

    Several threads may run one plan at the same time: each run has an arena of its own, and as
    many are kept as ran at once.

    Attributes:
        program: its steps.
        arena_bytes: what all values between the steps take together.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._answers = _answers(program)
        self._offsets, self.arena_bytes = _laid_out(program)
        self._native = _C.Plan()
        self._pieces: list[tuple[int, int] | TorchStep] = []
        for step in program.steps:
            if isinstance(step, TorchStep):
                self._pieces.append(step)
            else:
                self._add(step)
        self._free: list[_Memory] = []
        self._lock = threading.Lock()

    def run(self, inputs: Sequence[Tensor]) -> list[Any]:
        """The answers for tensors that are sized and strided as those of the program."""
        with self._lock:
            memory = self._free.pop() if self._free else self._new_memory()
        slots, bases = self._start(inputs, memory)
        threads = torch.get_num_threads()
        for piece in self._pieces:
            if isinstance(piece, TorchStep):
                self._run_torch(piece, memory, slots, bases)
            else:
                self._native.run(*piece, bases, threads)
        answers = [
            self._tensor(value, memory, slots) if isinstance(value, Value) else value
            for value in self.program.outputs
        ]
        with self._lock:
            self._free.append(memory)
        return answers

    # --- before the first run

    def _add(self, step: NativeStep) -> None:
        read = [(0, 0) if value is None else self._place(value) for value in step.read]
        self._native.add(step.call, read, self._place(step.output))
        last = len(self._native)
        if self._pieces and not isinstance(self._pieces[-1], TorchStep):
            self._pieces[-1] = (self._pieces[-1][0], last)
        else:
            self._pieces.append((last - 1, last))

    def _place(self, value: Value) -> tuple[int, int]:
        """As _C.Plan wants it: a base, and bytes behind it."""
        buffer = value.buffer
        if buffer.tensor is not None:
            return 0, buffer.tensor.data_ptr() + value.offset
        if buffer.slot is not None:
            return _FIRST_SLOT + buffer.slot, value.offset
        return _ARENA, self._offsets[buffer] + value.offset

    # --- a run

    def _new_memory(self) -> _Memory:
        return _Memory(_new(self.arena_bytes, torch.uint8))

    def _start(
        self, inputs: Sequence[Tensor], memory: _Memory
    ) -> tuple[list[Tensor | None], list[int]]:
        """What stands in the slots, and the addresses of all bases."""
        slots: list[Tensor | None] = [*inputs, *[None] * (self.program.slots - len(inputs))]
        for buffer, dtype in self._answers.items():
            assert buffer.slot is not None
            slots[buffer.slot] = _new(buffer.bytes, dtype)
        addresses = [0 if tensor is None else tensor.data_ptr() for tensor in slots]
        return slots, [0, memory.arena.data_ptr(), *addresses]

    def _run_torch(
        self, step: TorchStep, memory: _Memory, slots: list[Tensor | None], bases: list[int]
    ) -> None:
        def real(leaf: Any) -> Any:
            return self._tensor(leaf, memory, slots) if isinstance(leaf, Value) else leaf

        args, kwargs = pytree.tree_map(real, (step.args, step.kwargs))
        result = step.function(*args, **kwargs)
        tensors = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]
        for value, tensor in zip(step.outputs, tensors, strict=True):
            slot = value.buffer.slot
            assert slot is not None
            slots[slot] = kept = _as_expected(tensor, value, memory.arena)
            bases[_FIRST_SLOT + slot] = kept.data_ptr()

    def _tensor(self, value: Value, memory: _Memory, slots: list[Tensor | None]) -> Tensor:
        """The value as torch sees it."""
        buffer, meta = value.buffer, value.meta
        if buffer.slot is None and buffer.tensor is None:
            if value not in memory.views:
                start = self._offsets[buffer]
                flat = memory.arena[start : start + buffer.bytes].view(meta.dtype)
                memory.views[value] = _viewed(flat, meta)
            return memory.views[value]
        base = buffer.tensor if buffer.slot is None else slots[buffer.slot]
        assert base is not None
        return _viewed(base, meta)


def _new(bytes: int, dtype: torch.dtype) -> Tensor:
    return empty((bytes // dtype.itemsize,), dtype, torch.contiguous_format)


def _viewed(base: Tensor, meta: Tensor) -> Tensor:
    if base.shape == meta.shape and base.stride() == meta.stride():
        return base
    start = base.storage_offset() + int(meta.storage_offset())
    return base.as_strided(meta.size(), meta.stride(), start)


def _as_expected(tensor: Tensor, value: Value, arena: Tensor) -> Tensor:
    """What an operator gave, strided as the steps after it expect, and no part of the arena."""
    if tensor.untyped_storage().data_ptr() == arena.untyped_storage().data_ptr():
        tensor = tensor.clone()
    if tensor.stride() == value.meta.stride() or tensor.numel() == 0:
        return tensor
    own = torch.empty_strided(value.meta.size(), value.meta.stride(), dtype=tensor.dtype)
    return own.copy_(tensor)


def _answers(program: Program) -> dict[Buffer, torch.dtype]:
    """The buffers that hold answers of our kernels: each run makes new ones, for the caller."""
    found: dict[Buffer, torch.dtype] = {}
    for value in program.outputs:
        if not isinstance(value, Value) or value.buffer.tensor is not None:
            continue
        if value.buffer.slot is None:
            value.buffer.slot = program.slots
            program.slots += 1
            found[value.buffer] = value.dtype
    return found


def _laid_out(program: Program) -> tuple[dict[Buffer, int], int]:
    """Offsets of the buffers between the steps, and the size of the arena."""
    spans: dict[Buffer, tuple[int, int]] = {}
    for i, step in enumerate(program.steps):
        outputs = step.outputs if isinstance(step, TorchStep) else (step.output,)
        for value in (*step.read, *outputs):
            if value is not None and value.buffer.tensor is None and value.buffer.slot is None:
                first, _ = spans.get(value.buffer, (i, i))
                spans[value.buffer] = (first, i)
    buffers = list(spans)
    offsets, size = place([Lifetime(each.bytes, *spans[each]) for each in buffers])
    return dict(zip(buffers, offsets, strict=True)), size
