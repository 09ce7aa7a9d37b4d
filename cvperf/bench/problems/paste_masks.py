"""Masks of detected objects pasted into the image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cvperf.bench.accuracy import largest_error
from cvperf.bench.problems.base import Problem, Shape, generator


@dataclass(frozen=True, kw_only=True)
class PasteMasksShape(Shape):
    """``paste_masks(masks[k, side, side], boxes[k, 4], (h, w), threshold)`` -> [k, h, w]."""

    op: ClassVar[str] = "paste_masks"

    masks: int
    h: int
    w: int
    box_side: tuple[float, float]
    """Least and most side of a box in pixels, log-uniform between them."""
    side: int = 28
    threshold: float | None = 0.5
    layout: str = "n/a"

    @property
    def flop(self) -> int:
        return 0  # it depends on the boxes; the roofline is that of writing the images

    @property
    def bytes(self) -> int:
        size = self.torch_dtype.itemsize
        read = self.masks * (self.side**2 * size + 16)
        return read + self.masks * self.h * self.w * (size if self.threshold is None else 1)

    @property
    def size(self) -> float:
        return float(self.masks * self.h * self.w)

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {
            "masks": (self.masks, self.side, self.side),
            "boxes": (self.masks, 4),
            "image_size": (self.h, self.w),
            "box_side": self.box_side,
            "threshold": self.threshold,
        }

    def problem(self, seed: int = 0, device: str = "cpu") -> PasteMasks:
        return PasteMasks(self, seed, device)


class PasteMasks(Problem):
    """Masks [K, 1, M, M]: a blurred disc with noise; boxes [K, 4] xyxy within the image."""

    shape: PasteMasksShape

    def __init__(self, shape: PasteMasksShape, seed: int, device: str) -> None:
        self.shape = shape
        random = generator(seed, device)

        def rand(*size: int) -> Tensor:
            return torch.rand(size, generator=random, device=device)

        axis = torch.linspace(-1, 1, shape.side, device=device)
        disc = torch.sigmoid(6 * (0.8 - torch.hypot(axis[:, None], axis[None, :])))
        noise = 0.2 * (rand(shape.masks, 1, shape.side, shape.side) - 0.5)
        self.masks = (disc + noise).clamp(0, 1).to(shape.torch_dtype)
        least, most = (math.log(side) for side in shape.box_side)
        limit = torch.tensor([shape.w, shape.h], device=device)
        sides = torch.minimum((least + (most - least) * rand(shape.masks, 2)).exp(), limit)
        corner = rand(shape.masks, 2) * (limit - sides)
        self.boxes = torch.cat([corner, corner + sides], 1)
        self.image_size, self.threshold = (shape.h, shape.w), shape.threshold

    @property
    def tolerance(self) -> float:
        """Positions are computed in float32: values near the threshold may fall either way."""
        return 1e-5 if self.threshold is None else 1e-4

    def reference(self) -> Tensor:
        from torchvision.models.detection.roi_heads import paste_masks_in_image

        pasted = paste_masks_in_image(self.masks.double(), self.boxes, self.image_size)
        return pasted if self.threshold is None else pasted > self.threshold

    def error(self, expected: Tensor, answer: Tensor) -> float:
        """Of the values the largest difference; of the set pixels the share that differs."""
        if self.threshold is None:
            return largest_error(expected, answer)
        if expected.shape != answer.shape or answer.dtype != torch.bool:
            return math.inf
        differing = (expected != answer).sum().item()
        return differing / max(int(expected.sum()), 1)
