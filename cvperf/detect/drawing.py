"""A picture with what was found in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from cvperf.files import aside
from cvperf.page import boxes

if TYPE_CHECKING:
    from PIL.Image import Image

_KEPT = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}


def drawn(image: Tensor, found: Mapping[str, Tensor], names: Mapping[int, str]) -> Image:
    """The picture with masks and boxes, a colour a label, and names where there is room.

    Args:
        image: uint8 [3, H, W].
        found: what :class:`cvperf.detect.finder.Finder` answers.
        names: of the labels.
    """
    from PIL import Image

    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    labels = found["labels"].tolist()
    colours = [boxes.COLOURS[label % len(boxes.COLOURS)] for label in labels]
    masks = [Image.fromarray(mask.byte().mul(255).numpy()) for mask in found.get("masks", ())]
    boxes.veil(picture, masks, colours[: len(masks)])
    scores = found["scores"].tolist()
    texts = [f"{names.get(label, label)} {s:.2f}" for label, s in zip(labels, scores, strict=True)]
    boxes.mark(picture, [tuple(box) for box in found["boxes"].tolist()], texts, colours)
    return picture


def save(picture: Image, name: str, folder: Path) -> None:
    """Write a picture under a name in a folder: as JPEG or PNG by its ending, else as PNG."""
    path = folder / name
    kind = _KEPT.get(path.suffix.lower())
    path = path if kind else path.with_name(f"{path.name}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    with aside(path) as written:
        picture.save(written, kind or "PNG", **({"quality": 90} if kind == "JPEG" else {}))
