"""The model's worst errors as pictures inside the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import torch
from torch import Tensor

from cvperf.errors import ArgumentError, describe

_LARGEST = 320  # pixels of the longest side: sharp on the page, small in the file
_SMALL = 128  # the page enlarges smaller ones; it does so pixel by pixel


@dataclass(frozen=True)
class Mistake:
    """A sample that the model got wrong."""

    image: Tensor
    """uint8 [C, H, W], C 1 (grey) or 3 (RGB)."""
    truth: str
    answer: str
    loss: float

    @property
    def small(self) -> bool:
        """Whether its pixels should stay visible when it is enlarged."""
        return max(self.image.shape[1:]) < _SMALL


def data_url(image: Tensor) -> str:
    """An image uint8 [C, H, W] as a PNG in a data address; larger ones are reduced.

    Raises:
        ArgumentError: it is not uint8 [1 or 3, H, W] with a pixel.
    """
    from PIL import Image

    if image.dtype != torch.uint8 or image.dim() != 3 or image.shape[0] not in (1, 3):
        raise ArgumentError(f"image must be uint8 [1 or 3, H, W], got {describe(image)}")
    if not image.numel():
        raise ArgumentError(f"image must have a pixel, got {describe(image)}")
    pixels = image.detach().cpu().permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(pixels[:, :, 0] if image.shape[0] == 1 else pixels)
    picture.thumbnail((_LARGEST, _LARGEST))
    file = io.BytesIO()
    picture.save(file, format="png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
