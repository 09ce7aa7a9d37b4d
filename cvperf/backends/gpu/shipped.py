"""What stands for everything that ships: calls on ``meta`` tensors, compiled without a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cvperf.backends.gpu.model import Architecture


@dataclass(frozen=True)
class Call:
    """One call that ships.

    Attributes:
        op: the op.
        name: what is special about it; (op, name) is unique.
        run: makes the call; within ``offline.compiling``.
        share: share of the roofline that the analytical model predicts on an architecture.
    """

    op: str
    name: str
    run: Callable[[], Any]
    share: Callable[[Architecture], float]


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor without data."""
    return torch.empty(shape, dtype=dtype, device="meta")


def channels_last(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A channels-last tensor without data."""
    return meta(*shape, dtype=dtype).to(memory_format=torch.channels_last)
