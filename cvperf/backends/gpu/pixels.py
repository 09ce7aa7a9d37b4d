"""What the GPU backends share for images."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


@functools.lru_cache(64)
def offset_and_factor(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """``(x / 255 - mean) / std`` as ``(x - offset) * factor``, copied to the device once."""
    with torch.inference_mode(False):
        offset = torch.tensor([255.0 * each for each in mean], dtype=torch.float32, device=device)
        factor = torch.tensor(
            [1.0 / (255.0 * each) for each in std], dtype=torch.float32, device=device
        )
    return offset, factor
