"""The activations that ops can fuse, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cvperf.errors import ArgumentError, describe

ACTIVATIONS = ("relu", "relu6", "silu", "hardswish", "sigmoid", "leaky_relu")
LEAKY_RELU_SLOPE = 0.01


def check_activation(activation: object) -> None:
    """Refuse anything but None and the names in ``ACTIVATIONS``."""
    if activation is None:
        return
    if not isinstance(activation, str):
        raise TypeError(f"activation must be a name or None, got {describe(activation)}")
    if activation not in ACTIVATIONS:
        raise ArgumentError(
            f"activation must be None or one of {', '.join(ACTIVATIONS)}; got {activation!r}"
        )


def activation_grad(
    activation: str | None, grad: Tensor, output: Tensor | None, before: Callable[[], Tensor]
) -> Tensor:
    """The gradient before an activation: from its output where that tells, else from its input.

    Args:
        activation: its name, or None.
        grad: the gradient of what it gave.
        output: what it gave; not read for silu and hardswish.
        before: computes what it was given again; called for those two only.
    """
    aten = torch.ops.aten
    if activation is None:
        return grad
    if activation == "relu":
        return aten.threshold_backward.default(grad, output, 0)
    if activation == "relu6":
        return aten.hardtanh_backward.default(grad, output, 0, 6)
    if activation == "sigmoid":
        return aten.sigmoid_backward.default(grad, output)
    if activation == "leaky_relu":
        return aten.leaky_relu_backward.default(grad, output, LEAKY_RELU_SLOPE, True)
    if activation == "silu":
        x = before()
        if not torch.is_grad_enabled():
            return aten.silu_backward.default(grad, x)
        gate = torch.sigmoid(x)  # torch's silu_backward has no gradient itself
        return grad * gate * (1 + x * (1 - gate))
    return aten.hardswish_backward.default(grad, before())
