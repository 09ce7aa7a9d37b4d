"""RoI Align in Triton, gradient of one map or of a pyramid of them.

Nothing waits for the GPU: a box with an image index outside the batch adds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.backends.registry import layout_of
from cvperf.backends.triton.configs import Config
from cvperf.backends.triton.launch import launch
from cvperf.backends.triton.roi_sampling import channels_last_of, sampling_of, weights_of
from cvperf.backends.triton.roi_tiles import boxes_of_tiles, check_grad
from cvperf.kernels.triton import roi_align_backward as kernels

TILE = 8
"""Pixels of a tile each way."""


def roi_align_backward(
    grad: Tensor,
    boxes: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    batch_size: int,
    channels: int,
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    return multiscale_roi_align_backward(
        *(grad, boxes, [spatial_scale], pooled_height, pooled_width, batch_size, channels),
        *([height], [width], sampling_ratio, aligned, 224.0, 4),
    )[0]


def multiscale_roi_align_backward(
    grad: Tensor,
    boxes: Tensor,
    scales: Sequence[float],
    pooled_height: int,
    pooled_width: int,
    batch_size: int,
    channels: int,
    heights: Sequence[int],
    widths: Sequence[int],
    sampling_ratio: int,
    aligned: bool,
    canonical_scale: float,
    canonical_level: int,
) -> list[Tensor]:
    sizes = list(zip(heights, widths, strict=True))
    bins = (pooled_height, pooled_width)
    sampling = sampling_of(
        *(boxes, scales, batch_size, channels, sizes, bins, sampling_ratio, aligned),
        (canonical_scale, canonical_level),
    )
    check_grad("grad", grad, boxes, channels, bins)
    channels_last = layout_of(grad) == "channels_last"
    format = torch.channels_last if channels_last else torch.contiguous_format
    outputs = [
        torch.empty(
            (batch_size, channels, *size),
            dtype=grad.dtype,
            device=grad.device,
            memory_format=format,
        )
        for size in sizes
    ]
    if grad.numel() == 0:
        return [each.zero_() for each in outputs]
    if not channels_last:
        grad = channels_last_of(grad.contiguous())
    tables = weights_of(sampling, TILE)
    tiles = boxes_of_tiles(tables.places, tables.extents, batch_size, sizes, TILE)
    config = Config.of(4, 1, BLOCK_CHANNELS=128 if grad.element_size() == 2 else 64)
    launch(
        kernels.roi_align_backward,
        (tiles.count * -(-channels // config["BLOCK_CHANNELS"]),),
        *(grad, tables.weights, tables.touching, tiles.lists, tiles.begins, tiles.lengths),
        *(tuple(outputs), boxes.shape[0], batch_size, channels),
        *(sampling.heights, sampling.widths, *tables.pitches),
        config=config,
        PH=pooled_height,
        PW=pooled_width,
        LEVELS=len(sizes),
        CHANNELS_LAST=channels_last,
        TILE=TILE,
    )
    return outputs
