"""Feature pyramids: which level a box is pooled from, and the layout that levels share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.backends.registry import layout_of
from cvperf.errors import ArgumentError, describe


def pyramid_levels(
    boxes: Tensor, scales: Sequence[float], canonical_scale: float, canonical_level: int
) -> Tensor:
    """The level of each box by equation 1 of Lin et al., "Feature Pyramid Networks", CVPR 2017.

    ``floor(canonical_level + log2(sqrt(area) / canonical_scale) + 1e-6)``, clamped to the levels
    there are. These are the operations of torchvision's LevelMapper, in the boxes' own dtype (half
    types in float32), so that a box at the edge of two levels falls on the same one: torch's vector
    log2 and libm's differ in the last bit.

    Args:
        boxes: [K, 5] rows ``(image index, x1, y1, x2, y2)``.
        scales: of each level, halving from one to the next; the first is 2**-first level.
        canonical_scale: side of a box that belongs on ``canonical_level``.
        canonical_level: a level as the paper counts them, 2 for stride 4.

    Returns:
        int32 [K]: index into ``scales``; -1 for a box on no level, one of negative area or with
        a coordinate that is not a number.
    """
    if boxes.dtype in (torch.float16, torch.bfloat16):
        boxes = boxes.to(torch.float32)
    _, x1, y1, x2, y2 = boxes.unbind(1)
    side = torch.sqrt((x2 - x1) * (y2 - y1))
    eps = torch.tensor(1e-6, dtype=side.dtype)
    level = torch.floor(canonical_level + torch.log2(side / canonical_scale) + eps)
    first = int(-math.log2(scales[0]))
    level = torch.clamp(level, min=first, max=first + len(scales) - 1) - first
    return level.nan_to_num_(nan=-1.0).to(torch.int32)


def as_pyramid(features: Sequence[Tensor]) -> list[Tensor]:
    """The levels in the one layout that they share (``pyramid_format``); copies what has another.

    Raises:
        ArgumentError: they differ in images, channels or dtype.
    """
    first = features[0]
    if any(each.shape[:2] != first.shape[:2] or each.dtype != first.dtype for each in features):
        raise ArgumentError(
            "features must share images, channels and dtype, got "
            + ", ".join(map(describe, features))
        )
    format = pyramid_format(features)
    return [each.contiguous(memory_format=format) for each in features]


def pyramid_format(features: Sequence[Tensor]) -> torch.memory_format:
    """Channels-last if any level is, else contiguous. One that is neither, or both, follows."""
    if any(layout_of(each) == "channels_last" for each in features):
        return torch.channels_last
    return torch.contiguous_format
