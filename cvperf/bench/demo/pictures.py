"""Draw labels and boxes on photos, readable on any background."""

from __future__ import annotations

import base64
import io
import itertools
from typing import TYPE_CHECKING, TypeAlias

from cvperf.bench.demo.agreement import Detections

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont
    from PIL.ImageFont import ImageFont as BitmapFont

    Font: TypeAlias = FreeTypeFont | BitmapFont

_SHOWN_PX = 640  # longest side in the report: sharp on a phone, small in the file
_COLOURS = ("#ffb000", "#3ddbd9", "#ff7eb6", "#a6e22e", "#82b1ff", "#ff8a65", "#e0aaff")
_INK = "#111111"
_FEW = 4  # so few boxes leave room for tags that are readable in a small picture
_CROWD = 30  # with more boxes than this, tags would hide the photo


def draw_label(photo: Image, text: str) -> Image:
    """A copy with ``text`` on a band along its lower edge."""
    from PIL import ImageDraw

    image = _shown(photo)
    draw = ImageDraw.Draw(image, "RGBA")
    size = image.width // 14
    width = draw.textlength(text, font=_font(size))
    font = _font(min(size, int(size * (image.width - 24) / width)))
    left, top, _, bottom = draw.textbbox((0, 0), text, font=font)
    band = image.height - (bottom - top) - 24
    draw.rectangle((0, band, image.width, image.height), fill=(0, 0, 0, 185))
    draw.text((12 - left, band + 12 - top), text, font=font, fill="white")
    return image


def draw_boxes(photo: Image, found: Detections) -> Image:
    """A copy with every box, one colour a label, and label and score where there is room."""
    from PIL import ImageDraw

    image = _shown(photo)
    draw = ImageDraw.Draw(image)
    scale = image.width / photo.width
    colours = dict(zip(sorted({*found.labels}), itertools.cycle(_COLOURS)))
    boxes = [tuple(side * scale for side in box) for box in found.boxes.tolist()]
    for box, label in zip(boxes, found.labels, strict=True):
        _outline(draw, box, colours[label])
    if len(boxes) <= _CROWD:
        font = _font(28 if len(boxes) <= _FEW else 16)
        taken: list[tuple[float, ...]] = []
        for box, label, score in zip(boxes, found.labels, found.scores.tolist(), strict=True):
            _tag(draw, box, f"{label} {score:.2f}", colours[label], font, taken)
    return image


def data_url(image: Image) -> str:
    """The picture as a JPEG inside a ``data:`` address, so that the page needs no other file."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _outline(draw: ImageDraw, box: tuple[float, ...], colour: str) -> None:
    left, top, right, bottom = box
    draw.rectangle(box, outline=_INK, width=5)  # the dark rim shows on light ground
    if right - left > 2 and bottom - top > 2:
        draw.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline=colour, width=3)


def _tag(
    draw: ImageDraw,
    box: tuple[float, ...],
    text: str,
    colour: str,
    font: Font,
    taken: list[tuple[float, ...]],
) -> None:
    """Write ``text`` above the box, unless that would cover one of the tags in ``taken``."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    height = bottom - top + 6
    x, y = box[0], max(box[1] - height, 0)
    tag = (x, y, x + right - left + 8, y + height)
    if any(tag[0] < t[2] and t[0] < tag[2] and tag[1] < t[3] and t[1] < tag[3] for t in taken):
        return
    taken.append(tag)
    draw.rectangle(tag, fill=colour)
    draw.text((x + 4 - left, y + 3 - top), text, font=font, fill=_INK)


def _shown(photo: Image) -> Image:
    scale = _SHOWN_PX / max(photo.size)
    size = (round(photo.width * scale), round(photo.height * scale))
    return photo.convert("RGB").resize(size)


def _font(pixels: int) -> Font:
    from PIL import ImageFont

    return ImageFont.load_default(pixels)
