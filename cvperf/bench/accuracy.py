"""The one tolerance table, and how far an answer is from the float64 reference."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# One rounding of the output is half an ulp: this is that a few times over, as some libraries round
# partial sums too. The sum itself is made in float32, whose error grows with the square root of the
# terms at random signs.
_ROUNDING = {
    torch.float64: 2.0**-50,
    torch.float32: 2.0**-22,
    torch.float16: 2.0**-10,
    torch.bfloat16: 2.0**-6,
}
_SUM = 2.0**-24


def tolerance(dtype: torch.dtype, terms: int = 1) -> float:
    """The largest error allowed to any contender, relative to the largest value of the answer.

    Args:
        dtype: of the output. Integers must be exact: 0.
        terms: how many products are summed into one output.

    The sum of n float32 products with random signs is off by about sqrt(n) roundings (Higham,
    "Accuracy and Stability of Numerical Algorithms", section 2.8); four times that is allowed, so
    that Winograd and other reorderings of the same sum pass and a wrong element does not.
    """
    if dtype not in _ROUNDING:
        return 0.0
    if dtype == torch.float64:
        return _ROUNDING[dtype] * math.sqrt(terms)
    return _ROUNDING[dtype] + 4 * _SUM * math.sqrt(terms) + 4 * _SUM


def largest_error(expected: Tensor, answer: Tensor) -> float:
    """Largest absolute difference over the largest absolute value of ``expected``.

    Infinite where the shapes differ or the answer has a NaN, so that no tolerance lets it pass.
    """
    if expected.shape != answer.shape:
        return math.inf
    if expected.numel() == 0:
        return 0.0
    expected = expected.detach().cpu().double()
    difference = (answer.detach().cpu().double() - expected).abs_().max().item()
    if math.isnan(difference):
        return math.inf
    # A zero answer has no scale of its own: the difference then stands as it is.
    return difference / (expected.abs().max().item() or 1.0)
