"""RoI Align in CUDA C++, gradient of one map or of a pyramid of them.

Nothing waits for the GPU: a box with an image index outside the batch adds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.backends.channels import memory_format
from cvperf.backends.cuda.launch import Kernel, launch
from cvperf.backends.cuda.roi_sampling import (
    TYPES,
    channels_last_of,
    levels_in_kernel,
    packed_maps,
    packed_sampling,
    vector_of,
)
from cvperf.backends.gpu.roi_sampling import sampling_of
from cvperf.backends.registry import layout_of
from cvperf.backends.rois import check_grad

TILE = 8
"""Pixels of a tile each way: ``kTile`` of the kernel."""


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
    bins, canonical = (pooled_height, pooled_width), (canonical_scale, canonical_level)
    sampling = sampling_of(
        *(boxes, scales, batch_size, channels, sizes, bins, sampling_ratio, aligned),
        levels_in_kernel(boxes, canonical),
    )
    check_grad("grad", grad, boxes, channels, bins)
    channels_last = layout_of(grad) == "channels_last"
    format, device, count = memory_format(channels_last), grad.device, boxes.shape[0]
    outputs = [
        torch.empty(
            (batch_size, channels, *size), dtype=grad.dtype, device=device, memory_format=format
        )
        for size in sizes
    ]
    if grad.numel() == 0:
        return [each.zero_() for each in outputs]
    grad = grad.contiguous(memory_format=format)
    if not channels_last:
        grad = channels_last_of(grad)

    packed = packed_sampling(sampling, canonical)
    pitches = [math.ceil(max(side, 1) / TILE) * TILE for side in (max(heights), max(widths))]
    rows = sum(bin * pitch for bin, pitch in zip(bins, pitches, strict=True))
    weights = torch.empty(count * rows, dtype=torch.float32, device=device)
    touching = torch.empty((count, sum(pitches) // TILE, 2), dtype=torch.int32, device=device)
    extents = torch.empty((count, 4), dtype=torch.int32, device=device)
    places = torch.empty(count, dtype=torch.int32, device=device)
    launch(
        Kernel("roi_align_backward.cu", "roi_weights"),
        (count,),
        64,
        *(packed, sampling.boxes, sampling.levels, weights, touching, extents, places, *pitches),
        shared_bytes=8 * sum(bins),
    )
    vector = vector_of([grad, *outputs] if channels_last else [grad], channels)
    lanes = lanes_of(math.ceil(channels / vector))
    tiles = batch_size * sum(math.ceil(h / TILE) * math.ceil(w / TILE) for h, w in sizes)
    launch(
        Kernel("roi_align_backward.cu", f"roi_align_backward<{TYPES[grad.dtype]}, {vector}>"),
        (tiles * slices_of(channels, vector),),
        TILE * lanes,
        *(packed, packed_maps(outputs), grad, weights, touching, extents, places),
        *(count, channels, *pitches, lanes, int(channels_last)),
    )
    return outputs


def lanes_of(vectors: int) -> int:
    """Vectors of channels that a block takes, of 4 to 32: the most that leaves an eighth idle."""
    for lanes in (32, 16, 8):
        if math.ceil(vectors / lanes) * lanes <= vectors * 8 / 7:
            return lanes
    return 4


def slices_of(channels: int, vector: int) -> int:
    """Blocks that share the channels of a tile."""
    vectors = math.ceil(channels / vector)
    return math.ceil(vectors / lanes_of(vectors))
