"""A set to detect in that is made in no time: bright blocks, upright or lying, on noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors

from cvperf.data.sets.detection import detection_target

SIZE = 64
SIDES = ((24, 12), (12, 24))
"""Height and width of each class."""


class Blocks:
    """One block or two an image, with masks; every fifth image has none."""

    labels = None
    classes = ("upright", "lying")

    def __init__(self, split: str, count: int = 16) -> None:
        self._count, self._start = count, 1000 * (split == "train")

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        generator = torch.Generator().manual_seed(self._start + index)
        pixels = torch.randint(0, 60, (3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
        boxes: list[list[int]] = []
        labels: list[int] = []
        for side in range(0 if index % 5 == 4 else 1 + index % 2):
            label = int(torch.randint(2, (), generator=generator))
            height, width = SIDES[label]
            top, left = torch.randint(0, SIZE // 2 - 24, (2,), generator=generator).tolist()
            left += side * SIZE // 2
            boxes.append([left, top, left + width, top + height])
            labels.append(label)
        masks = torch.zeros(len(boxes), SIZE, SIZE, dtype=torch.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
            mask[top:bottom, left:right] = 1
        pixels[:, masks.bool().any(0)] += 150
        image = tv_tensors.Image(pixels)
        return image, detection_target(image, as_boxes(boxes), torch.tensor(labels).long(), masks)


def as_boxes(boxes: list[list[int]]) -> Tensor:
    """float32 [n, 4]."""
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
