"""What a call must be like for a captured graph to hold for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class OpenSize:
    """A size that may vary.

    Attributes:
        expression: sympy's, of the graph's symbols.
        lower: the least that it may be.
        upper: the greatest; None for no bound.
    """

    expression: Any
    lower: int
    upper: int | None


@dataclass(frozen=True)
class Expected:
    """A tensor of a call: its dtype and sizes."""

    dtype: torch.dtype
    shape: tuple[int | OpenSize, ...]

    def __str__(self) -> str:
        sizes = (
            str(each.expression) if isinstance(each, OpenSize) else each for each in self.shape
        )
        return f"{str(self.dtype).removeprefix('torch.')}[{', '.join(map(str, sizes))}]"


@dataclass(frozen=True)
class Conditions:
    """Of one graph.

    Attributes:
        leaves: of the call's arguments, flattened: tensors, and everything else as it must be.
        guards: what the trace took for granted of open sizes, where the model's code compares
            them; in sympy.
    """

    leaves: tuple[Any, ...]
    guards: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return ", ".join(map(str, [*self.leaves, *(f"where {each}" for each in self.guards)]))

    def hold(self, leaves: Sequence[Any]) -> bool:
        """Whether they do for arguments of the same structure."""
        symbols: dict[Any, int] = {}
        for leaf, expected in zip(leaves, self.leaves, strict=True):
            if not isinstance(expected, Expected):
                if type(leaf) is not type(expected) or leaf != expected:
                    return False
            elif not isinstance(leaf, Tensor) or not _alike(leaf, expected, symbols):
                return False
        return all(guard.subs(symbols) == True for guard in self.guards)  # noqa: E712 (sympy's)


def conditions_of(leaves: Sequence[Any]) -> Conditions:
    """Of tensors as torch.export left them, open sizes as symbols, and everything else."""
    guards: tuple[Any, ...] = ()
    for leaf in leaves:
        for size in leaf.shape if isinstance(leaf, Tensor) else ():
            if not isinstance(size, int):
                environment = size.node.shape_env  # one for all
                guards = tuple(environment.replace(guard.expr) for guard in environment.guards)
    expected = tuple(_expected(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves)
    return Conditions(expected, guards)


def _expected(leaf: Tensor) -> Expected:
    return Expected(leaf.dtype, tuple(map(_size, leaf.shape)))


def _size(size: Any) -> int | OpenSize:
    if isinstance(size, int):
        return size
    limits = size.node.shape_env.bound_sympy(size.node.expr)
    upper = int(limits.upper) if limits.upper.is_Integer else None  # or infinite
    return OpenSize(size.node.expr, int(limits.lower), upper)


def _alike(tensor: Tensor, expected: Expected, symbols: dict[Any, int]) -> bool:
    if tensor.dtype != expected.dtype or tensor.dim() != len(expected.shape):
        return False
    for there, size in zip(tensor.shape, expected.shape, strict=True):
        if not isinstance(size, OpenSize):
            if there != size:
                return False
            continue
        if there < size.lower or (size.upper is not None and there > size.upper):
            return False
        symbol = size.expression
        if symbol.is_symbol and symbols.setdefault(symbol, there) != there:
            return False
        if not symbol.is_symbol and int(symbol.subs(symbols)) != there:
            return False
    return True
