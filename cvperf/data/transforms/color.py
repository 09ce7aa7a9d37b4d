"""Colours as another camera or another light would give them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvperf.data.transforms.base import PixelTransform, check_range, to_bytes, uniform


class ChannelShift(PixelTransform):
    """Adds to each channel a number of its own, between ``-limit`` and ``limit`` of 255.

    Args:
        limit: the largest shift, in grey levels.
        p: probability.
    """

    def __init__(self, limit: float = 20.0, p: float = 1.0) -> None:
        super().__init__(p)
        check_range("limit", limit, 0, 255)
        self.limit = limit

    def draw(self, channels: int, height: int, width: int) -> dict[str, Any]:
        return {"shift": uniform(-self.limit, self.limit, channels)}

    def change(self, image: Tensor, *, shift: Tensor) -> Tensor:  # type: ignore[override]
        return to_bytes(image + shift[:, None, None])


class ColorCast(PixelTransform):
    """Multiplies each channel, as a light of another colour does; brightness stays about the same.

    Gains are ``exp(u)`` with u between ``-strength`` and ``strength``, divided by their mean. An
    image of one channel stays as it is.

    Args:
        strength: 0 changes nothing; 0.3 is a lamp in place of daylight.
        p: probability.
    """

    def __init__(self, strength: float = 0.3, p: float = 1.0) -> None:
        super().__init__(p)
        check_range("strength", strength, 0, 3)
        self.strength = strength

    def draw(self, channels: int, height: int, width: int) -> dict[str, Any]:
        gains = torch.exp(uniform(-self.strength, self.strength, channels))
        return {"gains": gains / gains.mean()}

    def change(self, image: Tensor, *, gains: Tensor) -> Tensor:  # type: ignore[override]
        return to_bytes(image * gains[:, None, None])
