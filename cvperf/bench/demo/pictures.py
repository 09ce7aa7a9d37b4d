"""Draw labels and boxes on photos, readable on any background."""

from __future__ import annotations

import base64
import io
import itertools
from typing import TYPE_CHECKING

from cvperf.bench.demo.agreement import Detections
from cvperf.page import boxes

if TYPE_CHECKING:
    from PIL.Image import Image

_SHOWN_PX = 640  # longest side in the report: sharp on a phone, small in the file


def draw_label(photo: Image, text: str) -> Image:
    """A copy with ``text`` on a band along its lower edge."""
    from PIL import ImageDraw

    image = _shown(photo)
    draw = ImageDraw.Draw(image, "RGBA")
    size = image.width // 14
    width = draw.textlength(text, font=boxes.font_of(size))
    font = boxes.font_of(min(size, int(size * (image.width - 24) / width)))
    left, top, _, bottom = draw.textbbox((0, 0), text, font=font)
    band = image.height - (bottom - top) - 24
    draw.rectangle((0, band, image.width, image.height), fill=(0, 0, 0, 185))
    draw.text((12 - left, band + 12 - top), text, font=font, fill="white")
    return image


def draw_boxes(photo: Image, found: Detections) -> Image:
    """A copy with every box, one colour a label, and label and score where there is room."""
    image = _shown(photo)
    scale = image.width / photo.width
    colours = dict(zip(sorted({*found.labels}), itertools.cycle(boxes.COLOURS)))
    boxes.mark(
        image,
        [tuple(side * scale for side in box) for box in found.boxes.tolist()],
        [f"{n} {s:.2f}" for n, s in zip(found.labels, found.scores.tolist(), strict=True)],
        [colours[label] for label in found.labels],
    )
    return image


def data_url(image: Image) -> str:
    """The picture as a JPEG inside a ``data:`` address, so that the page needs no other file."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _shown(photo: Image) -> Image:
    scale = _SHOWN_PX / max(photo.size)
    size = (round(photo.width * scale), round(photo.height * scale))
    return photo.convert("RGB").resize(size)
