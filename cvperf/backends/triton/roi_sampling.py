"""What the RoI kernels share: tables of where boxes sample, and maps turned to channels last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cvperf.backends.gpu.configs import Config
from cvperf.backends.gpu.model import LAUNCH_S, Architecture, Tiles, seconds
from cvperf.backends.gpu.roi_sampling import Sampling, scale_bits
from cvperf.backends.triton.launch import launch
from cvperf.kernels.triton import roi_sampling as kernels
from cvperf.kernels.triton import turn as turn_kernels

BLOCK_PIXELS = 32
"""Pixels of an axis that roi_weights takes at a time."""
WEIGHTS_INSTRUCTIONS = 2000
"""Of a warp of roi_weights for 28 pixels and 2 samples a bin (counted in what compiles)."""
LEVELS_S = 13 * LAUNCH_S
"""For the levels of a pyramid's boxes: so many operations has ``pyramid_levels``, each a launch."""


@dataclass(frozen=True)
class Weights:
    """Tables of roi_weights; its signature says what they hold."""

    weights: Tensor
    edges: Tensor
    touching: Tensor
    extents: Tensor
    places: Tensor
    pitches: tuple[int, int]


def weights_of(sampling: Sampling, tile: int | None = None) -> Weights:
    """Runs roi_weights; with the tables by pixel if ``tile`` is given.

    Takes 4 K (height of the bins x height of the highest map + width x width) bytes.
    """
    count, (ph, pw) = sampling.boxes.shape[0], sampling.bins
    pitch_y, pitch_x = (
        max(-(-max(sizes) // BLOCK_PIXELS), 1) * BLOCK_PIXELS
        for sizes in (sampling.heights, sampling.widths)
    )
    by_pixel, device = tile is not None, sampling.boxes.device
    tile = tile or BLOCK_PIXELS

    def table(*shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    tables = Weights(
        table(count * (ph * pitch_y + pw * pitch_x), dtype=torch.float32),
        table(count, ph + pw, 2),
        table(count if by_pixel else 0, (pitch_y + pitch_x) // tile, 2),
        table(4, count if by_pixel else 0),
        table(count if by_pixel else 0),
        (pitch_y, pitch_x),
    )
    launch(
        kernels.roi_weights,
        (count, 2),
        *(sampling.boxes, sampling.levels, tables.weights, tables.edges),
        *(tables.touching, tables.extents, tables.places),
        *(count, sampling.images, scale_bits(sampling.scale), sampling.ratio),
        *(sampling.heights, sampling.widths, pitch_y, pitch_x),
        config=Config.of(1, 1, BINS=block_bins(sampling), BLOCK=BLOCK_PIXELS, TILE=tile),
        PH=ph,
        PW=pw,
        ALIGNED=sampling.aligned,
        ADAPTIVE=sampling.ratio <= 0,
        LEVELS=len(sampling.heights),
        BY_PIXEL=by_pixel,
        enable_fp_fusion=False,
    )
    return tables


def weights_seconds(gpu: Architecture, boxes: int) -> float:
    """Predicted seconds of roi_weights, without its launch.

    Each axis of a box is a warp, and 16 fit a processor by their registers: too few to hide that
    most of a warp's instructions wait for the one before.
    """
    tiles = Tiles(2 * boxes, WEIGHTS_INSTRUCTIONS, "issue", 0.0, 0.0, blocks=16, efficiency=0.6)
    return seconds(gpu, tiles, launches=0)


def channels_last_of(tensor: Tensor) -> Tensor:
    """A contiguous [N, C, H, W] tensor in channels last."""
    images, channels, height, width = tensor.shape
    turned = torch.empty_like(tensor, memory_format=torch.channels_last)
    positions, block_positions, block_channels = height * width, 64, 64
    launch(
        turn_kernels.turn,
        (images * -(-positions // block_positions), -(-channels // block_channels)),
        *(tensor, turned, channels, positions),
        config=Config.of(4, 1, BLOCK_POSITIONS=block_positions, BLOCK_CHANNELS=block_channels),
    )
    return turned


def block_bins(sampling: Sampling) -> int:
    """A power of two that holds the bins of either axis."""
    return 1 << (max(sampling.bins) - 1).bit_length()


def wide(features: Sequence[Tensor]) -> bool:
    """Whether an image has offsets that take 64 bits."""
    return any(each[0].numel() >= 2**31 for each in features if each.shape[0])
