"""Composed scenes with exact boxes and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torchvision import tv_tensors

HEIGHT, WIDTH = 400, 500
BOXES = ((50, 40, 250, 210), (230, 120, 450, 370), (20, 190, 190, 390))


def rectangles(
    corners: Sequence[Sequence[int]] = BOXES, channels: int = 3
) -> tuple[tv_tensors.Image, dict[str, Any]]:
    """Filled rectangles on noise."""
    masks = torch.zeros(len(corners), HEIGHT, WIDTH, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, corners, strict=True):
        mask[top:bottom, left:right] = 1
    image = torch.randint(256, (channels, HEIGHT, WIDTH), dtype=torch.uint8)
    boxes = tv_tensors.BoundingBoxes(
        torch.tensor(corners, dtype=torch.float32), format="XYXY", canvas_size=(HEIGHT, WIDTH)
    )
    labels = torch.arange(len(corners))
    target = {"boxes": boxes, "labels": labels, "masks": tv_tensors.Mask(masks)}
    return tv_tensors.Image(image), target
