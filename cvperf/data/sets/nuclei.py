"""Nuclei under a fluorescence microscope: the annotated picture that stardist ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cvperf.data.packages import fetch
from cvperf.data.sets.splits import check_split
from cvperf.data.sets.tiles import Rectangle, Tile, Tiles, boxes_of, cuts_of

CLASSES = ("nucleus",)
AREAS: dict[str, Rectangle] = {
    "train": (0, 0, 384, 256),
    "validation": (384, 0, 512, 256),
    "test": (0, 256, 512, 512),
}
"""Split -> what of the 512x512 pixels it has: the left half is not tested on."""


def load(split: str, size: int = 128, stride: int | None = None) -> Tiles:
    """Split ``"train"``, ``"validation"`` or ``"test"``: pieces uint8 [3, H, W] with masks.

    One real picture with 125 nuclei, each outlined by hand; grey, so that its channels are alike.
    A nucleus belongs to a piece that has half of its pixels or more.

    Args:
        split: which.
        size: of a piece. Those to train on are squares that overlap; those of the other splits
            have sides of about this length and share no pixel.
        stride: from one square to train on to the next; by default half of ``size``.

    Raises:
        ArgumentError: there is no such split, or ``size`` does not fit.
        PackageError: the package could not be fetched.
    """
    check_split(split)
    area, tile = AREAS[split], _tile(fetch("stardist") / "stardist/data/images")
    return Tiles([tile.cut(piece) for piece in cuts_of(split, area, size, stride)], CLASSES)


def _tile(folder: Path) -> Tile:
    from PIL import Image

    with Image.open(folder / "img2d.tif") as picture, Image.open(folder / "mask2d.tif") as numbers:
        pixels, owner = np.array(picture), np.array(numbers)
    grey = torch.from_numpy(pixels.astype(np.uint8))  # 16 bits of which the greys take 8
    # Some numbers are not given to any nucleus.
    _, dense = np.unique(owner, return_inverse=True)
    owners = torch.from_numpy(dense.reshape(owner.shape).astype(np.int32))
    count = int(owners.max())
    labels = torch.zeros(count, dtype=torch.int64)
    return Tile(grey.expand(3, -1, -1).contiguous(), boxes_of(owners, count), labels, owners)
