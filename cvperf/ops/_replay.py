"""Packed weights remember the calls that were checked with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends.cpu.memory import RECYCLED_FROM
from cvperf.backends.registry import preferred
from cvperf.ops._direct import ordinary

_Plan = tuple[_C.Call, tuple[Tensor | None, ...], tuple[int, ...]]


class RemembersCalls:
    """Base of packed weights: a call laid out as one before goes straight to its kernel.

    What is remembered belongs to this process: it is left out of copies and pickles.
    """

    def replays(self) -> _C.Replays | None:
        """The calls remembered here; None where a call is to take the long way."""
        if torch.compiler.is_compiling() or preferred() is not None:
            return None
        known: _C.Replays | None = self.__dict__.get("_replays")
        if known is None:
            known = self.__dict__["_replays"] = _C.Replays()
        return known

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_replays"}


def remember(
    replays: _C.Replays | None,
    arguments: tuple[object, ...],
    plan: Callable[..., _Plan],
    call: tuple[Any, ...],
    output: Tensor,
) -> None:
    """Let later calls with such arguments skip what was found out in this one.

    Args:
        replays: where to; None for nowhere.
        arguments: of the public function.
        plan: the CPU backend's: what ``call`` comes down to.
        call: the arguments of the op.
        output: what the call gave.
    """
    if replays is None or not output.is_cpu or output.nbytes >= RECYCLED_FROM:
        return  # a large output has memory of its own kind, and the checks are little beside it
    if ordinary(*arguments):
        native, read, _ = plan(*call)
        replays.remember(arguments, native, read, output)
