"""Checks that the RoI functions of every backend share."""

from __future__ import annotations

from torch import Tensor

from cvperf.errors import ArgumentError, describe


def check_grad(
    name: str, grad: Tensor, boxes: Tensor, channels: int, bins: tuple[int, int]
) -> None:
    """Raises ArgumentError unless ``grad`` has a value for each bin of each box and channel."""
    expected = (boxes.shape[0], channels, *bins)
    if tuple(grad.shape) != expected:
        raise ArgumentError(
            f"{name} must be [boxes, channels, bins, bins] = {list(expected)}, got {describe(grad)}"
        )
