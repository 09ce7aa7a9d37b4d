"""Pasting of masks in float64."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cvperf.backends.registry import FLOATING, register

FARTHEST = 2**30
"""Coordinates beyond it, in pixels, are taken for wrong: the box is nowhere."""


def box_pixels(boxes: Tensor, scale: float) -> Tensor:
    """The boxes expanded about their centre and cut to whole pixels; int64 [K, 4].

    In the dtype of the boxes, as torchvision does it: it decides which pixels are the box's.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    half, middle = (high - low) * 0.5 * scale, (high + low) * 0.5
    expanded = torch.cat([middle - half, middle + half], 1)
    known = (expanded.abs() < FARTHEST).all(1, keepdim=True)
    nowhere = torch.full_like(expanded, -2.0)
    return torch.where(known, expanded, nowhere).to(torch.int64)


@register("paste_masks", "reference", "cpu", FLOATING, automatic=False)
def paste_masks(
    masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float | None, padding: int
) -> Tensor:
    side = masks.shape[-1]
    padded = F.pad(masks.double(), (padding,) * 4)
    exact = boxes if boxes.dtype == torch.float64 else boxes.float()
    output = torch.zeros(len(masks), height, width, dtype=torch.float64)
    for image, mask, box in zip(
        output, padded, box_pixels(exact, (side + 2 * padding) / side).tolist(), strict=True
    ):
        left, top, right, bottom = box
        x0, x1 = max(left, 0), min(right + 1, width)
        y0, y1 = max(top, 0), min(bottom + 1, height)
        if x0 >= x1 or y0 >= y1:
            continue
        size = (max(bottom - top + 1, 1), max(right - left + 1, 1))
        resized = F.interpolate(mask[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        image[y0:y1, x0:x1] = resized[y0 - top : y1 - top, x0 - left : x1 - left]
    return output.to(masks.dtype) if threshold is None else output > threshold
