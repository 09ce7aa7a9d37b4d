"""Weights as integers: symmetric steps, one size a filter."""

from __future__ import annotations

import torch
from torch import Tensor

SHRINKS = 32
"""How many ranges from half of the whole one on are tried."""


def symmetric(weight: Tensor, most: int, per_channel: bool = True) -> tuple[Tensor, Tensor]:
    """int8 [O, ...] of -most to most, and float32 [O]: what a step of each filter stands for.

    The greatest value of a filter, or of all if not ``per_channel``, gets the last step.
    """
    weight = weight.float()
    highest = weight.flatten(1).abs().amax(1).clamp(min=1e-12)
    scale = (highest if per_channel else highest.max().expand_as(highest).contiguous()) / most
    return on_steps(weight, scale, most), scale


def fitted(weight: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """As :func:`symmetric`, but the range of each filter is that of the least square error.

    With few steps it pays to let the greatest values go. Complexity: 32 passes over the weight.
    """
    weight = weight.float()
    whole = symmetric(weight, most)[1]
    best, least = whole, torch.full_like(whole, float("inf"))
    for i in range(SHRINKS + 1):
        scale = whole * (1 - i / (2 * SHRINKS))
        error = on_steps(weight, scale, most) * _column(weight, scale) - weight
        square = error.square().flatten(1).sum(1)
        best = torch.where(square < least, scale, best)
        least = torch.minimum(square, least)
    return on_steps(weight, best, most), best


def on_steps(weight: Tensor, scale: Tensor, most: int) -> Tensor:
    """int8 [O, ...], the nearest of -most to most on steps of [O]."""
    return (weight / _column(weight, scale)).round().clamp(-most, most).to(torch.int8)


def _column(weight: Tensor, scale: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (weight.dim() - 1))
