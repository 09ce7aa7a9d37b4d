"""What calls for images [N, C, H, W] are checked for before they are made."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cvperf.errors import ArgumentError

FLOATS = (torch.float16, torch.bfloat16, torch.float32)
BYTES = (torch.int8, torch.uint8)

Shape = tuple[int, int, int, int]


def check_image(image: Sequence[int]) -> None:
    if len(image) != 4 or min(image[1:]) < 1 or image[0] < 0:
        raise ArgumentError(f"image must be [N, C, H, W], empty in N at most, got {list(image)}")


def check_dtype(name: str, dtype: torch.dtype, served: Sequence[torch.dtype]) -> None:
    if dtype not in served:
        names = ", ".join(str(each).removeprefix("torch.") for each in served)
        raise ArgumentError(
            f"{name} must be one of {names}, got {str(dtype).removeprefix('torch.')}"
        )
