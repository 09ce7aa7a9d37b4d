"""NMS on GPUs: the threshold as the kernels of both backends take it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cvperf.errors import UnsupportedError

_MOST_BOXES, _MOST_IMAGES = 1 << 24, 65535


@dataclass(frozen=True)
class Screens:
    """The threshold, ready for the kernels: float32 numbers.

    Attributes:
        threshold: the largest float32 that is not above the one asked for.
        below: share of two boxes' areas that their intersection exceeds where it matters.
        above: share above which it certainly does.
    """

    threshold: float
    below: float
    above: float

    @property
    def prunes(self) -> bool:
        """Whether boxes that do not meet ignore each other; below 0, an IoU of 0 suppresses."""
        return self.threshold >= 0

    @classmethod
    def of(cls, iou_threshold: float) -> Screens:
        t = rounded_down(iou_threshold)
        if not t < 1:  # no IoU exceeds 1
            return cls(t, math.inf, math.inf)
        share = t / (1 + t) if t > 0 else 0.0
        return cls(t, share * (1 - 2.0**-20), share * (1 + 2.0**-20))


def rounded_down(number: float) -> float:
    """The largest float32 that is not above it."""
    with np.errstate(over="ignore"):
        rounded = np.float32(number)
    if float(rounded) > number:
        rounded = np.nextafter(rounded, np.float32(-math.inf))
    return float(rounded)


def check_size(backend: str, images: int, count: int) -> None:
    """Raise an UnsupportedError for more boxes than the kernels can number."""
    if count > _MOST_BOXES or images > _MOST_IMAGES:
        raise UnsupportedError(
            f"nms in {backend} takes up to {_MOST_IMAGES} images of {_MOST_BOXES} boxes, got "
            f"{images} of {count}; move the call to the CPU with .cpu()"
        )
