"""Composed: Fashion-MNIST's pictures, each turned by a known angle. The target is the angle."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cvperf.data.sets import fashion_mnist
from cvperf.data.sets.base import InMemory
from cvperf.errors import ArgumentError, check_count, check_number

_AT_ONCE = 10_000
"""Pictures, so that floats of all of them need not fit into memory."""


def load(
    split: str, *, degrees: float = 60.0, seed: int = 0, root: str | Path | None = None
) -> InMemory:
    """Split ``"train"`` (60,000) or ``"test"`` (10,000): uint8 [N, 1, 28, 28], no classes.

    What was turned out of the picture is cut off, what was turned in is black.

    Args:
        split: which.
        degrees: angles are evenly drawn from minus to plus this; labels are in radians, above 0
            counterclockwise.
        seed: of the angles.
        root: the folder of Fashion-MNIST's files, as its own ``load`` takes it.

    Raises:
        ArgumentError: ``degrees`` is not above 0 and at most 180.
    """
    check_number("degrees", degrees, "above 0, at most 180")
    if not 0 < degrees <= 180:
        raise ArgumentError(f"degrees must be above 0 and at most 180, got {degrees}")
    check_count("seed", seed)
    whole = fashion_mnist.load(split, root)
    generator = np.random.RandomState((seed, split == "test"))
    limit = math.radians(degrees)
    angles = torch.from_numpy(generator.uniform(-limit, limit, len(whole))).float()
    pieces = zip(whole.images.split(_AT_ONCE), angles.split(_AT_ONCE), strict=True)
    return InMemory(torch.cat([turned(*piece) for piece in pieces]), angles, ())


def turned(images: Tensor, angles: Tensor) -> Tensor:
    """uint8 [N, C, H, W], each turned counterclockwise around its middle by ``angles`` [N]."""
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    # Where each pixel of the result comes from; rows count downwards.
    rows = [torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    moved = F.grid_sample(images.float(), grid, align_corners=False)
    return moved.round().to(torch.uint8)
