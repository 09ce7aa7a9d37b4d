"""What a plan is made of: values in buffers, and steps that read and write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cvperf import _C


@dataclass(eq=False)
class Buffer:
    """Memory that a plan's steps read and write.

    Attributes:
        bytes: its size.
        tensor: what it holds, where that is fixed.
        slot: its place among the tensors that a run is given or makes, else None: in the arena.
    """

    bytes: int
    tensor: Tensor | None = None
    slot: int | None = None


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the plan: a view of a buffer.

    Attributes:
        meta: shape, strides, dtype and offset into the buffer, on torch's meta device.
        buffer: where it lies.
    """

    meta: Tensor
    buffer: Buffer

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.meta.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self.meta.dtype

    @property
    def offset(self) -> int:
        """Bytes behind the start of the buffer."""
        return int(self.meta.storage_offset()) * self.meta.itemsize

    def is_channels_last(self) -> bool:
        """Dense, and an image whose channels come last in memory."""
        return self.meta.dim() == 4 and self.meta.is_contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True, eq=False)
class NativeStep:
    """One of our kernels."""

    name: str
    call: _C.Call
    read: tuple[Value | None, ...]
    output: Value
    work: int = 0
    """Operations, where they count: products and sums of convolutions and matrix products."""


@dataclass(frozen=True, eq=False)
class TorchStep:
    """An operator that none of our kernels serves."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    read: tuple[Value, ...]
    outputs: tuple[Value, ...]
    """In slots of their own; strided as the operator is expected to leave them."""
    work: int = 0


Step = NativeStep | TorchStep


@dataclass(eq=False)
class Program:
    """A graph's steps for inputs of one size, in the order in which they run."""

    steps: list[Step] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    """A Value, or a number, string or None as it is, each."""
    slots: int = 0

    def slot(self, meta: Tensor) -> Value:
        """A value in a tensor of its own."""
        value = Value(meta, Buffer(_bytes(meta), slot=self.slots))
        self.slots += 1
        return value

    def fixed(self, tensor: Tensor) -> Value:
        """A value that is always the same."""
        meta = tensor.to("meta")
        if meta.stride() != tensor.stride():  # it has gaps or repeats itself
            tensor = tensor.contiguous()
        return Value(meta, Buffer(tensor.nbytes, tensor=tensor))

    def new(self, shape: Sequence[int], dtype: torch.dtype, format: torch.memory_format) -> Value:
        """A dense value in the arena."""
        meta = torch.empty(tuple(shape), dtype=dtype, device="meta", memory_format=format)
        return Value(meta, Buffer(_bytes(meta)))

    def like(self, meta: Tensor) -> Value:
        """A value in the arena, of this size and dtype and in this order, without gaps."""
        own = torch.empty_like(meta)
        return Value(own, Buffer(_bytes(own)))


def _bytes(meta: Tensor) -> int:
    return int(meta.untyped_storage().nbytes())
