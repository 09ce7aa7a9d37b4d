"""The traces that JPEG leaves. (torchvision's own has an end announced in 0.29.)"""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from cvperf.data.transforms.base import PixelTransform, check_range


class RandomJPEG(PixelTransform):
    """Writes the picture as JPEG and reads it again; of one or three channels.

    Args:
        quality: 1 to 100, a number or [least, most].
        p: probability.
    """

    def __init__(self, quality: float | tuple[float, float] = (30, 90), p: float = 1.0) -> None:
        super().__init__(p)
        self.quality = check_range("quality", quality, 1, 100)

    def draw(self, channels: int, height: int, width: int) -> dict[str, Any]:
        least, most = (int(quality) for quality in self.quality)
        return {"quality": int(torch.randint(least, most + 1, ()))}

    def change(self, image: Tensor, *, quality: int) -> Tensor:  # type: ignore[override]
        import PIL.Image

        file = io.BytesIO()
        functional.to_pil_image(image).save(file, "JPEG", quality=quality)
        return functional.pil_to_tensor(PIL.Image.open(file))
