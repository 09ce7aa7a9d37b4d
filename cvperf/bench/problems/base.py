"""What every op's shapes and problems share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cvperf.bench.accuracy import largest_error, tolerance
from cvperf.bench.contender import Contender
from cvperf.bench.results import Measurement


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One call of an op in numbers: a line of ``benchmarks/shapes``."""

    op: ClassVar[str]

    name: str
    """Unique in its op; ``--case`` selects by it."""
    nets: tuple[str, ...] = ()
    """The networks that make this call."""
    quick: bool = False
    """Whether ``--quick`` takes it."""
    dtype: str = "float32"
    layout: str = "channels_last"
    """``contiguous``, ``channels_last``, or ``n/a`` where there is no choice."""
    devices: tuple[str, ...] = ("cpu", "cuda")
    """Where it is run; a shape too slow for the peers of a device leaves that device out."""
    peers: tuple[str, ...] = ()
    """The only peers raced, where a call of the others would take too long; empty: all."""

    @property
    def subject(self) -> str:
        """What a row records as its op, and ``--op`` selects: the op, or the model's name."""
        return self.op

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.layout == "channels_last" else torch.contiguous_format

    @property
    @abstractmethod
    def flop(self) -> int:
        """Operations of the textbook algorithm, a multiply-add counted as two."""

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Every input read once and every output written once."""

    @property
    def size(self) -> float:
        """Where the shape stands on the report's horizontal axis."""
        return float(self.flop)

    @property
    @abstractmethod
    def numbers(self) -> Mapping[str, Any]:
        """The call by the names of its arguments: what a result row records as its shape."""

    @abstractmethod
    def problem(self, seed: int = 0, device: str = "cpu") -> Problem:
        """The call on random tensors: the same ones for the same seed."""


class Problem:
    """One call on tensors. Subclasses hold the inputs under the names of the op's arguments."""

    shape: Shape

    @abstractmethod
    def reference(self) -> Tensor:
        """The answer in float64, by code that is not ours."""

    @property
    def terms(self) -> int:
        """How many products are summed into one output."""
        return 1

    @property
    def tolerance(self) -> float:
        """The largest error a contender may have: from the one table in accuracy.py."""
        return tolerance(self.shape.torch_dtype, self.terms)

    def detail(self, row: Measurement, contender: Contender | None) -> dict[str, Any]:
        """What only this kind of problem can add to a row; no contender, no time."""
        return {}

    def error(self, expected: Tensor, answer: Tensor) -> float:
        """How far ``answer`` is from ``expected``, to be held against ``tolerance``."""
        return largest_error(expected, answer)


def generator(seed: int, device: str) -> torch.Generator:
    """Random numbers that are the same on every run of one device type."""
    return torch.Generator(device).manual_seed(seed)
