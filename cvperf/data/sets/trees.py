"""Trees in aerial photographs: the annotated tiles of NEON's sites that deepforest ships."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import torch

from cvperf.data.images import read_image
from cvperf.data.packages import fetch
from cvperf.data.sets.splits import check_split
from cvperf.data.sets.tiles import Rectangle, Tile, Tiles, cuts_of

CLASSES = ("tree",)
AREAS: dict[str, tuple[tuple[str, Rectangle | None], ...]] = {
    "train": (
        ("2019_YELL_2_528000_4978000_image_crop2", (0, 0, 2472, 1800)),
        ("OSBS_029", None),
        ("SOAP_061", None),
    ),
    "validation": (("2019_YELL_2_528000_4978000_image_crop2", (0, 1800, 2472, 2299)),),
    "test": (("2019_YELL_2_541000_4977000_image_crop", None),),
}
"""Split -> tiles, and what of each; None: all of it."""


def load(split: str, size: int = 400, stride: int | None = None) -> Tiles:
    """Split ``"train"``, ``"validation"`` or ``"test"``: pieces uint8 [3, H, W] with boxes.

    Real pictures, a tenth of a metre a pixel, in which people drew a box around each crown: 574
    trees in one tile of Yellowstone, whose right part is for validation, 61 and 37 at two other
    sites, and for the test 279 in another tile of Yellowstone. Living and dead trees are one class.
    A tree belongs to a piece that has half of its box or more.

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
    pieces = []
    for name, area in AREAS[split]:
        tile = _tile(fetch("deepforest") / "deepforest/data" / name)
        area = area or (0, 0, *tile.size)
        pieces += [tile.cut(piece) for piece in cuts_of(split, area, size, stride)]
    return Tiles(pieces, CLASSES)


def _tile(path: Path) -> Tile:
    """The picture ``path.png`` with the boxes of ``path.xml``, of Pascal VOC's format."""
    objects = ET.parse(f"{path}.xml").getroot().iter("bndbox")
    corners = [
        [float(one.findtext(k, "")) for k in ("xmin", "ymin", "xmax", "ymax")] for one in objects
    ]
    boxes = torch.tensor(corners)
    boxes[:, :2] -= 1  # VOC counts pixels from 1, and the last one is part of the box
    labels = torch.zeros(len(boxes), dtype=torch.int64)
    return Tile(read_image(f"{path}.png").as_subclass(torch.Tensor), boxes, labels)
