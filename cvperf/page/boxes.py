"""Boxes with their names, and masks, drawn on a picture; readable on any background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont
    from PIL.ImageFont import ImageFont as BitmapFont

    Font: TypeAlias = FreeTypeFont | BitmapFont

Box = tuple[float, ...]
"""Left, top, right, bottom in pixels."""

COLOURS = ("#ffb000", "#3ddbd9", "#ff7eb6", "#a6e22e", "#82b1ff", "#ff8a65", "#e0aaff")
_INK = "#111111"
_SIDE_PX = 640  # a picture of this longer side has lines of 3 pixels; a larger one has thicker ones
_FEW = 4  # so few boxes leave room for tags that are readable in a small picture
_CROWD = 30  # with more boxes than this, tags would hide the photo
_LEAST_FONT_PX = 10
_VEIL = 0.4  # how much of a mask's colour is over the picture


def mark(image: Image, boxes: Sequence[Box], texts: Sequence[str], colours: Sequence[str]) -> None:
    """Draw every box, and its text where there is room.

    Args:
        image: RGB; changed in place.
        boxes: the most important first, whose text is written rather than another's.
        texts: one a box.
        colours: likewise.
    """
    from PIL import ImageDraw

    draw, unit = ImageDraw.Draw(image), max(image.size) / _SIDE_PX
    for box, colour in zip(boxes, colours, strict=True):
        _outline(draw, box, colour, max(1.0, unit))
    if len(boxes) > _CROWD:
        return
    font = font_of(max(_LEAST_FONT_PX, round((28 if len(boxes) <= _FEW else 16) * unit)))
    taken: list[Box] = []
    for box, text, colour in zip(boxes, texts, colours, strict=True):
        _tag(draw, box, text, colour, font, taken)


def veil(image: Image, masks: Sequence[Image], colours: Sequence[str]) -> None:
    """Tint what each mask covers.

    Args:
        image: RGB; changed in place.
        masks: of the image's size, mode "L": 0 outside, 255 inside.
        colours: one a mask.
    """
    for mask, colour in zip(masks, colours, strict=True):
        image.paste(colour, mask=mask.point(lambda value: round(value * _VEIL)))


def font_of(pixels: int) -> Font:
    """The font of all pictures."""
    from PIL import ImageFont

    return ImageFont.load_default(pixels)


def _outline(draw: ImageDraw, box: Box, colour: str, unit: float) -> None:
    left, top, right, bottom = box
    if right < left or bottom < top:
        return
    # The dark rim shows on light ground.
    draw.rectangle((left, top, right, bottom), outline=_INK, width=round(5 * unit))
    rim = round(unit)
    if right - left > 2 * rim and bottom - top > 2 * rim:
        inner = (left + rim, top + rim, right - rim, bottom - rim)
        draw.rectangle(inner, outline=colour, width=round(3 * unit))


def _tag(draw: ImageDraw, box: Box, text: str, colour: str, font: Font, taken: list[Box]) -> None:
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
