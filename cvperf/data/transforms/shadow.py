"""Shadows that a straight-edged object outside the picture would throw."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvperf.data.transforms.base import PixelTransform, check_range, to_bytes, uniform


class RandomShadow(PixelTransform):
    """Darkens a random polygon with a soft edge.

    Args:
        darkness: share of the light that is taken away inside, a number or [least, most].
        corners: of the polygon.
        softness: width of the edge's half-shade, in parts of the picture's shorter side.
        p: probability.
    """

    def __init__(
        self,
        darkness: float | tuple[float, float] = (0.3, 0.7),
        corners: int = 5,
        softness: float = 0.03,
        p: float = 0.5,
    ) -> None:
        super().__init__(p)
        self.darkness = check_range("darkness", darkness, 0, 1)
        check_range("corners", corners, 3, 50)
        check_range("softness", softness, 0, 1)
        self.corners = int(corners)
        self.softness = softness

    def draw(self, channels: int, height: int, width: int) -> dict[str, Any]:
        # Corners around a random centre, in the order of their angles: the polygon is star-shaped
        # and its edges never cross.
        centre = uniform(0.0, 1.0, 2)
        angles = (torch.arange(self.corners) + uniform(0, 1, self.corners)) * (
            2 * torch.pi / self.corners
        )
        radii = uniform(0.2, 0.7, self.corners)
        around = torch.stack((angles.cos(), angles.sin()), 1) * radii[:, None]
        polygon = (centre + around) * torch.tensor([width, height])
        return {"polygon": polygon, "light": 1 - float(uniform(*self.darkness, 1))}

    def change(self, image: Tensor, *, polygon: Tensor, light: float) -> Tensor:  # type: ignore[override]
        height, width = image.shape[-2:]
        shade = _shade(polygon, height, width, self.softness * min(height, width))
        return to_bytes(image * (1 - shade * (1 - light)))


def _shade(polygon: Tensor, height: int, width: int, softness: float) -> Tensor:
    """float32 [height, width]: 1 within ``polygon`` [n, 2] (x, y), 0 outside, soft between."""
    from PIL import Image, ImageDraw, ImageFilter

    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in polygon], fill=255)
    if softness > 0:
        mask = mask.filter(ImageFilter.GaussianBlur(softness / 2))
    flat = torch.frombuffer(bytearray(mask.tobytes()), dtype=torch.uint8)
    return flat.view(height, width) / 255
