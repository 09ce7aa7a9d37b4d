"""The numbers by which ``kernels/cuda/epilogue.cuh`` knows types and activations."""

from __future__ import annotations

import torch
from torch import Tensor

TYPES = {
    torch.int32: 0,
    torch.float32: 1,
    torch.float16: 2,
    torch.bfloat16: 3,
    torch.int8: 4,
    torch.uint8: 5,
}
"""``gpu::Type``."""

_NAMES = (None, "relu", "relu6", "silu", "hardswish", "sigmoid", "leaky_relu")
ACTIVATION: dict[str | None, int] = {name: number for number, name in enumerate(_NAMES)}
"""``gpu::Activation``."""


def factor(values: Tensor | None) -> tuple[Tensor | None, int]:
    """A ``gpu::Factor``: the numbers, and the step to the next, 0 where one is for all."""
    return values, int(values is not None and values.numel() > 1)


def columns(dtype: torch.dtype) -> int:
    """Columns that a thread finishes at a time."""
    return 4 if dtype.itemsize == 4 else 8
