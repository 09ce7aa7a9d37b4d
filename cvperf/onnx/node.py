"""One node of an ONNX graph as its handler sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from cvperf.errors import ArgumentError, UnsupportedError
from cvperf.onnx.builder import Builder
from cvperf.onnx.values import Constant, Number, Numbers, TensorValue, Traced, Value

_REQUIRED = object()


@dataclass(frozen=True)
class Node:
    """An operator with its attributes and inputs; handlers call its methods to extend the graph."""

    operator: str
    name: str
    opset: int
    attributes: Mapping[str, Any]
    """Python numbers, strings, lists of them, and torch tensors."""
    inputs: Sequence[Value | None]
    """None for an optional input that is not given."""
    output_names: Sequence[str]
    """Empty for an optional output that is not wanted."""
    builder: Builder

    def __str__(self) -> str:
        return f"{self.operator} {self.name!r} (opset {self.opset})"

    def attribute(self, name: str, default: Any = _REQUIRED) -> Any:
        if name in self.attributes:
            return self.attributes[name]
        if default is _REQUIRED:
            raise ArgumentError(f"{self} has no attribute {name!r}, which ONNX demands of it")
        return default

    def has(self, index: int) -> bool:
        return index < len(self.inputs) and self.inputs[index] is not None

    def wants(self, index: int) -> bool:
        """Whether an output is used at all."""
        return index < len(self.output_names) and self.output_names[index] != ""

    def value(self, index: int) -> Value:
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            raise ArgumentError(f"{self} has no input {index}, which ONNX demands of it")
        return value

    def tensor(self, index: int) -> TensorValue:
        """An input as a tensor."""
        return self.builder.as_tensor(self.value(index))

    def optional(self, index: int) -> TensorValue | None:
        return self.tensor(index) if self.has(index) else None

    def tensors(self) -> list[TensorValue]:
        return [self.tensor(index) for index in range(len(self.inputs))]

    def weight(self, index: int) -> TensorValue:
        """An input that is a layer's weight: a parameter of the module if the file has it."""
        value = self.tensor(index)
        return value.as_weight() if isinstance(value, Constant) else value

    def optional_weight(self, index: int) -> TensorValue | None:
        return self.weight(index) if self.has(index) else None

    def numbers(self, index: int) -> tuple[Number, ...] | fx.Node:
        """An input as Python numbers; one node that gives the list where its length is unknown."""
        value = self.value(index)
        if isinstance(value, Numbers):
            return value.items
        if isinstance(value, Constant):
            return tuple(value.tensor.flatten().tolist())
        return self.builder.call(_to_list, value)

    def number(self, index: int) -> Number:
        """An input of one element as a Python number."""
        numbers = self.numbers(index)
        if isinstance(numbers, fx.Node):
            return self.builder.call(_first, numbers)
        return numbers[0]

    def known(self, index: int, meaning: str) -> list[Any]:
        """An input as numbers that must not depend on the model's inputs."""
        numbers = self.numbers(index)
        if isinstance(numbers, fx.Node) or any(isinstance(item, fx.Node) for item in numbers):
            raise self.unsupported(
                f"its {meaning} (input {index}) depend on the model's inputs; they must be constant"
            )
        return list(numbers)

    def setting(self, name: str, index: int, default: Any = None) -> Any:
        """A list that older opsets give as an attribute, newer ones as a constant input."""
        if name in self.attributes:
            return self.attributes[name]
        return self.known(index, name) if self.has(index) else default

    def emit(
        self, function: Callable[..., Any], *args: Any, rank: int | None = None, **kwargs: Any
    ) -> TensorValue:
        """Add a call that gives one tensor, of ``rank`` dimensions if that is known."""
        return self.builder.tensor(function, *args, rank=rank, **kwargs)

    def unsupported(self, reason: str) -> UnsupportedError:
        """The error to raise where the operator is known, but not this use of it."""
        return UnsupportedError(
            f"cvperf.from_onnx cannot translate {self}: {reason}. Change the model before its "
            "export, or simplify the file (for instance with onnxsim)"
        )


def rank_of(*values: Value | None) -> int | None:
    """The largest rank: that of the result where values broadcast. None if one is unknown."""
    ranks = [value.rank for value in values if value is not None]
    known = [rank for rank in ranks if rank is not None]
    return max(known) if len(known) == len(ranks) and known else None


def floating(value: TensorValue) -> bool | None:
    """Whether a tensor holds floating-point numbers, None where nobody knows."""
    return None if value.dtype is None else value.dtype.is_floating_point


def scalar(value: TensorValue, beside: TensorValue) -> TensorValue | Number:
    """A constant of one element as a Python number, where broadcasting gives the same shape."""
    if not isinstance(value, Constant) or value.tensor.numel() != 1:
        return value
    fits = value.rank == 0 or (beside.rank is not None and beside.rank >= value.rank)
    return value.tensor.item() if fits and isinstance(beside, Traced) else value


def _to_list(tensor: torch.Tensor) -> list[Any]:
    return tensor.flatten().tolist()


def _first(numbers: Sequence[Any]) -> Any:
    return numbers[0]
