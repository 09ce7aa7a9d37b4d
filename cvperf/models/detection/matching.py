"""Which object each anchor or proposal stands for, and which of them a step learns from."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf.errors import ArgumentError

BELOW = -1
BETWEEN = -2


class Matcher:
    """Gives each anchor the object that it overlaps most, if the overlap is high enough.

    Args:
        high: an overlap of this or more is a match.
        low: an overlap under this is background; from here to ``high`` is neither.
        allow_low_quality: the anchors that overlap an object most of all match their best object,
            however low that overlap is, so that no object is left without an anchor.

    Raises:
        ArgumentError: ``low`` is above ``high``.
    """

    def __init__(self, high: float, low: float, allow_low_quality: bool = False) -> None:
        if low > high:
            raise ArgumentError(f"low must not be above high, got low {low} and high {high}")
        self.high = high
        self.low = low
        self.allow_low_quality = allow_low_quality

    def __call__(self, overlap: Tensor) -> Tensor:
        """Match by a table of overlaps.

        Args:
            overlap: [M, A], of M objects with A anchors; M may be 0.

        Returns:
            int64 [A]: the object's index, ``BELOW`` (-1) for background or ``BETWEEN`` (-2) for
            anchors to leave out.
        """
        if overlap.shape[0] == 0:
            return overlap.new_full((overlap.shape[1],), BELOW, dtype=torch.int64)
        best, index = overlap.max(dim=0)
        matched = torch.where(best < self.high, BETWEEN, index)
        matched = torch.where(best < self.low, BELOW, matched)
        if self.allow_low_quality and overlap.shape[1]:
            needed = (overlap == overlap.amax(dim=1, keepdim=True)).any(dim=0)
            matched = torch.where(needed, index, matched)
        return matched


def balanced_sample(
    labels: Tensor, count: int, positive_share: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draw objects and background for one image, as many as there are up to a count.

    The draws are torchvision's: after the same seed, the same ones.

    Args:
        labels: [A]; 1 or more is an object, 0 background, less than 0 is left out.
        count: how many to draw at most.
        positive_share: of the count, which objects may take up.
        generator: of the random numbers; torch's own by default.

    Returns:
        ``(objects, background)``: int64 indices into ``labels``, in the order drawn.
    """
    positive = torch.nonzero(labels >= 1).squeeze(1)
    negative = torch.nonzero(labels == 0).squeeze(1)
    positives = min(positive.numel(), int(count * positive_share))
    return _draw(positive, positives, generator), _draw(negative, count - positives, generator)


def _draw(choices: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    order = torch.randperm(choices.numel(), generator=generator, device=choices.device)
    return choices[order[:count]]
