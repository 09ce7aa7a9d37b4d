"""Contrast-limited adaptive histogram equalisation, as OpenCV computes it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvperf.data.transforms.base import PixelTransform, check_range, to_bytes
from cvperf.errors import ArgumentError, describe


class CLAHE(PixelTransform):
    """Evens out brightness tile by tile; for pictures with dark and bright parts.

    Of an image in colour the brightness (luma, BT.601) is equalised and its change added to each
    channel, so that hues stay.

    Args:
        clip_limit: how often a grey may occur in a tile, in multiples of an even spread; what is
            above it is given to all greys. Higher is more contrast and more noise.
        tiles: in each direction.
        p: probability.
    """

    def __init__(self, clip_limit: float = 2.0, tiles: int = 8, p: float = 1.0) -> None:
        super().__init__(p)
        check_range("clip_limit", clip_limit, 0.01, 256)
        check_range("tiles", tiles, 1, 256)
        self.clip_limit = clip_limit
        self.tiles = int(tiles)

    def change(self, image: Tensor, **drawn: Any) -> Tensor:
        if image.shape[0] != 3:
            return torch.stack([clahe(plane, self.clip_limit, self.tiles) for plane in image])
        weights = torch.tensor([0.299, 0.587, 0.114])
        luma = to_bytes((image * weights[:, None, None]).sum(0))
        change = clahe(luma, self.clip_limit, self.tiles).short() - luma
        return (image + change).clamp(0, 255).to(torch.uint8)


def clahe(grey: Tensor, clip_limit: float = 2.0, tiles: int = 8) -> Tensor:
    """uint8 [H, W] equalised; within one grey level of ``cv2.createCLAHE(clip_limit, tiles)``.

    Zuiderveld, "Contrast limited adaptive histogram equalization", Graphics Gems IV, 1994. Each
    tile has a table of greys; a pixel takes the mean of the four nearest tiles' tables, weighted
    by nearness. O(H W + 256 tiles^2).
    """
    if grey.dtype != torch.uint8 or grey.dim() != 2:
        raise ArgumentError(f"grey must be uint8 [H, W], got {describe(grey)}")
    height, width = grey.shape
    tables, tall, wide = _tables(grey, clip_limit, tiles)
    top, bottom, down = _neighbours(height, tall, tiles)
    left, right, across = _neighbours(width, wide, tiles)
    value = grey.long()

    def answers(row: Tensor, column: Tensor) -> Tensor:
        return tables[(row[:, None] * tiles + column[None]) * 256 + value]

    above = answers(top, left) * (1 - across) + answers(top, right) * across
    below = answers(bottom, left) * (1 - across) + answers(bottom, right) * across
    return to_bytes(above * (1 - down[:, None]) + below * down[:, None])


def _tables(grey: Tensor, clip_limit: float, tiles: int) -> tuple[Tensor, int, int]:
    """float32 [tiles * tiles * 256] of the new greys; height and width of a tile."""
    height, width = grey.shape
    more_down, more_across = -height % tiles, -width % tiles
    if more_down or more_across:  # as OpenCV: both sides or neither
        more_down, more_across = tiles - height % tiles, tiles - width % tiles
    padded = grey
    if more_down or more_across:
        padded = _reflected(grey, more_down, more_across)
    tall, wide = padded.shape[0] // tiles, padded.shape[1] // tiles
    cells = padded.view(tiles, tall, tiles, wide).transpose(1, 2).reshape(tiles * tiles, -1).long()
    offsets = torch.arange(tiles * tiles)[:, None] * 256
    counts = torch.bincount((cells + offsets).view(-1), minlength=tiles * tiles * 256)
    limited = _clipped(counts.view(-1, 256), max(int(clip_limit * tall * wide / 256), 1))
    return to_bytes(limited.cumsum(1) * (255 / (tall * wide))).float().view(-1), tall, wide


def _reflected(grey: Tensor, down: int, across: int) -> Tensor:
    if down >= grey.shape[0] or across >= grey.shape[1]:
        raise ArgumentError(
            f"an image of {list(grey.shape)} is too small for this many tiles; use fewer"
        )
    return F.pad(grey[None, None].float(), (0, across, 0, down), mode="reflect")[0, 0].byte()


def _clipped(counts: Tensor, limit: int) -> Tensor:
    """Histograms [tiles, 256] cut at ``limit``; what is cut off is spread over all greys."""
    excess = (counts - limit).clamp(min=0).sum(1, keepdim=True)
    rest = excess % 256
    # OpenCV gives what does not divide to greys at equal steps from 0 on.
    step = (256 // rest.clamp(min=1)).clamp(min=1)
    grey = torch.arange(256)
    more = (grey % step == 0) & (grey // step < rest)
    return counts.clamp(max=limit) + excess // 256 + more


def _neighbours(size: int, tile: int, tiles: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each row (or column): the tiles before and after, and the weight of the latter."""
    place = torch.arange(size) / tile - 0.5
    before = place.floor()
    first = before.clamp(min=0).long()
    second = (before + 1).clamp(max=tiles - 1).long()
    return first, second, place - before
