"""Packed weights remember the calls that were checked with them."""

from __future__ import annotations

from typing import Any

import torch

from cvperf import _C
from cvperf.backends.registry import preferred


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
