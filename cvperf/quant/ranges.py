"""Which range of values 255 steps are spread over, from a sample of what occurs.

A wide range loses by coarse steps, a narrow one by what it cuts off. Zero is always inside and
stands for itself, so that exact zeros (of a ReLU, of padding) lose nothing whatever the range.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Range = Callable[[Tensor, float, float], tuple[float, float]]
"""Takes a sample of the values, and the least and the greatest of all; gives least and greatest to
keep."""

BINS = 2048
SHARE = 1e-4
"""What ``percentile`` cuts off at either end."""
LEVELS = 256


def extremes(values: Tensor, least: float, most: float) -> tuple[float, float]:
    """All that occurs."""
    return min(least, 0.0), max(most, 0.0)


def percentile(values: Tensor, least: float, most: float) -> tuple[float, float]:
    """All but ``SHARE`` of the values at either end."""
    flat = values.flatten()
    cut = int(len(flat) * SHARE)
    if cut == 0:
        return extremes(values, least, most)
    low = flat.kthvalue(cut + 1).values
    high = flat.kthvalue(len(flat) - cut).values
    return min(float(low), 0.0), max(float(high), 0.0)


def least_square(values: Tensor, least: float, most: float) -> tuple[float, float]:
    """The range whose steps and cuts lose least in the mean square."""
    least, most = extremes(values, least, most)
    counts, centres = _histogram(values, least, most)
    shares = torch.linspace(0.3, 1, 36)
    low = least * shares if least else torch.zeros(1)
    high = most * shares if most else torch.zeros(1)
    lows, highs = (each.reshape(-1, 1) for each in torch.meshgrid(low, high, indexing="ij"))
    cut = (centres - centres.clamp(lows, highs)).square()
    step = (highs - lows) / (LEVELS - 1)
    loss = (torch.where(cut > 0, cut, step.square() / 12) * counts).sum(1)
    best = int(loss.argmin())
    return float(lows[best]), float(highs[best])


def entropy(values: Tensor, least: float, most: float) -> tuple[float, float]:
    """The range after which the values' distribution tells least from the one before.

    Source: Migacz, "8-bit Inference with TensorRT", GTC 2017.
    """
    least, most = extremes(values, least, most)
    counts, _ = _histogram(values, least, most)
    if not counts.any():
        return least, most
    zero, longest = round(-least / (most - least) * BINS), max(-least, most)
    losses = {}
    for share in torch.linspace(0.05, 1, 96).tolist():
        length = round(share * longest / (most - least) * BINS)
        first, last = max(zero - length, 0), min(zero + length, BINS)
        if last - first >= LEVELS:
            losses[share] = _divergence(counts, first, last)
    limit = min(losses, key=lambda share: (losses[share], -share)) * longest
    return max(least, -limit), min(most, limit)


RANGES: dict[str, Range] = {
    "minmax": extremes,
    "histogram": least_square,
    "percentile": percentile,
    "entropy": entropy,
}


def _histogram(values: Tensor, least: float, most: float) -> tuple[Tensor, Tensor]:
    """[BINS] each: how many values but zeros fall into it, and its middle."""
    flat = values.flatten()
    counts = torch.histc(flat[flat != 0], BINS, least, most) if most > least else torch.zeros(BINS)
    return counts, least + (torch.arange(BINS) + 0.5) * ((most - least) / BINS)


def _divergence(counts: Tensor, first: int, last: int) -> float:
    """Kullback and Leibler's, of the cut values from those that ``LEVELS`` bytes can tell."""
    inner = counts[first:last]
    cut = inner.clone()
    cut[0] += counts[:first].sum()
    cut[-1] += counts[last:].sum()
    level = torch.arange(len(inner)) * LEVELS // len(inner)
    sums = torch.zeros(LEVELS).index_add_(0, level, inner)
    filled = torch.zeros(LEVELS).index_add_(0, level, (inner > 0).float())
    told = torch.where(inner > 0, (sums / filled.clamp(min=1))[level], 0.0)
    # What was cut off lies where no byte told it before: next to nothing, but not nothing.
    told = told.clamp(min=1e-4) / told.clamp(min=1e-4).sum()
    share = cut / cut.sum()
    return float(torch.special.xlogy(share, share / told).sum())
