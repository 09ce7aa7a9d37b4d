"""The fused activations, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def activate(activation: str | None, value: Tensor) -> Tensor:
    """The fused activation by name; None passes the value on."""
    return value if activation is None else _ACTIVATIONS[activation](value)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.nn.functional.relu,
    "relu6": torch.nn.functional.relu6,
    "silu": torch.nn.functional.silu,
    "hardswish": torch.nn.functional.hardswish,
    "sigmoid": torch.sigmoid,
    "leaky_relu": torch.nn.functional.leaky_relu,
}
