"""Large annotated pictures, cut into pieces that fit a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cvperf.data.sets.detection import detection_target
from cvperf.errors import ArgumentError

_KEPT = 0.5
"""The share of an object that a piece must have for it to be an object there."""

Rectangle = tuple[int, int, int, int]
"""Top, left, bottom, right."""


@dataclass(frozen=True)
class Tile:
    """A picture and what is in it.

    Attributes:
        image: uint8 [3, H, W].
        boxes: float32 [n, 4], XYXY in pixels.
        labels: int64 [n].
        owner: int32 [H, W], the object that a pixel is of, counted from 1; 0: none. None where
            only boxes are known.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    owner: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[1], self.image.shape[2]

    def cut(self, piece: Rectangle) -> Tile:
        """A piece, with the objects of which at least half is in it."""
        top, left, bottom, right = piece
        image = self.image[:, top:bottom, left:right].contiguous()
        if self.owner is not None:
            return self._owned(image, self.owner[top:bottom, left:right])
        from torchvision.ops import box_area, clip_boxes_to_image

        moved = self.boxes - self.boxes.new_tensor([left, top, left, top])
        inside = clip_boxes_to_image(moved, (bottom - top, right - left))
        kept = box_area(inside) >= _KEPT * box_area(moved)
        return Tile(image, inside[kept], self.labels[kept])

    def _owned(self, image: Tensor, owner: Tensor) -> Tile:
        assert self.owner is not None
        count = len(self.labels)
        whole, here = (_pixels(each, count) for each in (self.owner, owner))
        kept = (here > 0) & (here >= _KEPT * whole)
        numbers = torch.zeros(count + 1, dtype=torch.int32)
        numbers[1:][kept] = torch.arange(1, int(kept.sum()) + 1, dtype=torch.int32)
        owner = numbers[owner.long()]
        return Tile(image, boxes_of(owner, int(kept.sum())), self.labels[kept], owner)


class Tiles(Dataset[Any]):
    """Pieces of pictures in memory, as a set of detection.

    Args:
        tiles: the pieces.
        classes: names of the labels.
    """

    labels = None

    def __init__(self, tiles: Sequence[Tile], classes: Sequence[str]) -> None:
        self.tiles, self.classes = list(tiles), tuple(classes)

    def __len__(self) -> int:
        return len(self.tiles)

    def __getitem__(self, index: int) -> Any:
        from torchvision import tv_tensors

        tile = self.tiles[index]
        masks = None if tile.owner is None else masks_of(tile.owner, len(tile.labels))
        target = detection_target(tile.image, tile.boxes, tile.labels, masks)
        return tv_tensors.Image(tile.image), target


def overlapping(area: Rectangle, size: int, stride: int) -> list[Rectangle]:
    """Squares of ``size`` that cover an area, each ``stride`` after the last or less.

    Raises:
        ArgumentError: the area is smaller, or a number is not above 0.
    """
    top, left, bottom, right = area
    if not 0 < size <= min(bottom - top, right - left) or stride < 1:
        raise ArgumentError(
            f"size must be 1 to {min(bottom - top, right - left)}, the smallest picture, and "
            f"stride 1 or more; got {size} and {stride}"
        )
    rows, columns = (
        [*range(first, last - size, stride), last - size]
        for first, last in ((top, bottom), (left, right))
    )
    return [(row, column, row + size, column + size) for row in rows for column in columns]


def apart(area: Rectangle, size: int) -> list[Rectangle]:
    """Rectangles with sides of about ``size`` that share no pixel and leave none out."""
    top, left, bottom, right = area
    rows, columns = (_cuts(first, last, size) for first, last in ((top, bottom), (left, right)))
    return [(t, le, b, r) for t, b in rows for le, r in columns]


def cuts_of(split: str, area: Rectangle, size: int, stride: int | None) -> list[Rectangle]:
    """Pieces: to train on ``overlapping``, by default by half; of other splits ``apart``."""
    return overlapping(area, size, stride or size // 2) if split == "train" else apart(area, size)


def masks_of(owner: Tensor, count: int) -> Tensor:
    """uint8 [count, H, W] of an owner of each pixel, int [H, W]."""
    numbers = torch.arange(1, count + 1, dtype=owner.dtype)
    return (owner == numbers[:, None, None]).to(torch.uint8)


def boxes_of(owner: Tensor, count: int) -> Tensor:
    """float32 [count, 4]: tight around the pixels of each."""
    from torchvision.ops import masks_to_boxes

    if not count:
        return torch.zeros(0, 4)
    boxes = masks_to_boxes(masks_of(owner, count)).float()
    boxes[:, 2:] += 1  # the far edge of the last pixel
    return boxes


def _cuts(first: int, last: int, size: int) -> list[tuple[int, int]]:
    count = max(1, round((last - first) / size))
    edges = [first + (last - first) * part // count for part in range(count + 1)]
    return list(pairwise(edges))


def _pixels(owner: Tensor, count: int) -> Tensor:
    """int64 [count]: how many each object has."""
    return torch.bincount(owner.flatten().long(), minlength=count + 1)[1:]
