"""Detection in large images: tile by tile, so that small objects are seen at their full size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.ops import box_area

from cvperf import ops
from cvperf.errors import ArgumentError, check_count, check_number, check_tensor, describe

Detector = Callable[[Sequence[Tensor]], Sequence[dict[str, Tensor]]]

_EDGE_PX = 2.0
"""A box that ends this near a tile's edge is taken for a piece of an object that goes on there."""
_PIECE = 0.7
"""Share of a piece's area that lies in the whole object's box."""


def detect_in_tiles(
    model: Detector,
    image: Tensor,
    size: int = 640,
    overlap: float = 0.2,
    iou_threshold: float = 0.5,
    whole: bool = True,
) -> dict[str, Tensor]:
    """Detect in overlapping tiles of an image, and merge what they found.

    An object that a tile's edge cuts is seen whole by the neighbour if it is no larger than the
    overlap, ``size * overlap`` pixels; larger ones are for the image as a whole. Of each object one
    box is kept: pieces that lie in a whole box of their class go, then greedy suppression.

    Args:
        model: in evaluation mode; takes a list of images, gives a dict for each.
        image: float32 [3, H, W] in 0..1.
        size: of a tile's sides in pixels. An image that fits into one is not cut.
        overlap: share of a tile's side that it has in common with the next, 0 to less than 1.
        iou_threshold: overlap above which the lower-scored of two boxes of a class is dropped.
        whole: detect in the image as a whole, too.

    Returns:
        ``boxes`` float32 [n, 4] in pixels of the image, ``labels`` int64 [n], ``scores`` float32
        [n], descending. Masks of the tiles are left out: n of them have n images' pixels.

    Raises:
        ArgumentError: the image is not [3, H, W], or a number is out of its range.

    Source: the slicing is that of Akyon et al., "Slicing Aided Hyper Inference and Fine-tuning for
    Small Object Detection", ICIP 2022.
    """
    check_tensor("image", image, "image[3, H, W] in 0..1", ndim=3, dtypes=(torch.float32,))
    height, width = image.shape[1:]
    tiles = tiles_of(height, width, size, overlap)
    check_number("iou_threshold", iou_threshold, "usually 0 to 1")
    found = [_in_tile(model, image, tile) for tile in tiles]
    if whole and len(tiles) > 1:
        found.append(_in_tile(model, image, (0, 0, width, height)))
    boxes, labels, scores, cut = (torch.cat(parts) for parts in zip(*found, strict=True))
    return _merge(boxes, labels, scores, cut, iou_threshold)


def tiles_of(height: int, width: int, size: int, overlap: float) -> list[tuple[int, int, int, int]]:
    """Boxes (left, top, right, bottom) of tiles that cover an image, row by row.

    All have the same size; the last of a row or column is moved back into the image.

    Raises:
        ArgumentError: a number is out of its range.
    """
    check_count("size", size)
    check_number("overlap", overlap, "0 to less than 1")
    if size == 0 or not 0 <= overlap < 1:
        raise ArgumentError(
            "size must be 1 or more and overlap 0 to less than 1, got "
            f"size {describe(size)}, overlap {describe(overlap)}"
        )
    step = max(1, round(size * (1 - overlap)))
    return [
        (left, top, min(left + size, width), min(top + size, height))
        for top in _starts(height, size, step)
        for left in _starts(width, size, step)
    ]


def _starts(length: int, size: int, step: int) -> list[int]:
    last = max(0, length - size)
    return [*range(0, last, step), last]


def _in_tile(
    model: Detector, image: Tensor, tile: tuple[int, int, int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes in the image's pixels, labels, scores, and bool [n]: cut by an inner edge."""
    left, top, right, bottom = tile
    (found,) = model([image[:, top:bottom, left:right]])
    boxes = found["boxes"] + found["boxes"].new_tensor([left, top, left, top])
    edges = boxes.new_tensor([left, top, right, bottom])
    ends = boxes.new_tensor([0, 0, image.shape[2], image.shape[1]])
    cut = ((boxes - edges).abs() < _EDGE_PX) & (edges != ends)
    return boxes, found["labels"], found["scores"], cut.any(1)


def _merge(
    boxes: Tensor, labels: Tensor, scores: Tensor, cut: Tensor, iou_threshold: float
) -> dict[str, Tensor]:
    whole = (~cut).nonzero().flatten()
    whole = whole[ops.batched_nms(boxes[whole], scores[whole], labels[whole], iou_threshold)]
    pieces = cut.nonzero().flatten()
    inside = _shares(boxes[pieces], boxes[whole]) > _PIECE
    same = labels[pieces, None] == labels[whole]
    pieces = pieces[~(inside & same).any(1)]
    left = torch.cat((whole, pieces))
    kept = left[ops.batched_nms(boxes[left], scores[left], labels[left], iou_threshold)]
    return {"boxes": boxes[kept], "labels": labels[kept], "scores": scores[kept]}


def _shares(boxes: Tensor, others: Tensor) -> Tensor:
    """[n, m]: share of each box's area that lies in each of the others."""
    start = torch.maximum(boxes[:, None, :2], others[:, :2])
    end = torch.minimum(boxes[:, None, 2:], others[:, 2:])
    shared = (end - start).clamp(min=0).prod(-1)
    return shared / box_area(boxes)[:, None].clamp(min=1e-6)
