"""The activations that ops can fuse, by name."""

from __future__ import annotations

from cvperf.errors import ArgumentError, describe

ACTIVATIONS = ("relu", "relu6", "silu", "hardswish", "sigmoid", "leaky_relu")


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
