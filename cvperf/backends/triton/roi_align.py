"""RoI Align in Triton, forward, on one map or a pyramid of them.

Nothing waits for the GPU: an image index outside the batch is not refused there, its box is zeros.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.backends.gpu.configs import Config
from cvperf.backends.gpu.roi_sampling import (
    Sampling,
    alignment,
    sampling_of,
    scale_bits,
    worth_turning,
)
from cvperf.backends.pyramid import as_pyramid, pyramid_format
from cvperf.backends.triton.launch import launch
from cvperf.backends.triton.roi_rows import run_rows
from cvperf.backends.triton.roi_sampling import channels_last_of, weights_of, wide
from cvperf.kernels.triton import roi_align as kernels
from cvperf.kernels.triton import roi_sampling as sampling_kernels

UNROLLED = 4
"""Samples a bin and axis up to which every tap is unrolled."""
BLOCK_PIXELS = 32
"""Pixels of an axis that roi_weights takes at a time."""


def roi_align(
    image: Tensor,
    boxes: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    bins = (pooled_height, pooled_width)
    return _align([image], boxes, [spatial_scale], bins, sampling_ratio, aligned)


def multiscale_roi_align(
    features: Sequence[Tensor],
    boxes: Tensor,
    scales: Sequence[float],
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
    canonical_scale: float,
    canonical_level: int,
) -> Tensor:
    bins, canonical = (pooled_height, pooled_width), (canonical_scale, canonical_level)
    return _align(features, boxes, scales, bins, sampling_ratio, aligned, canonical)


def _align(
    features: Sequence[Tensor],
    boxes: Tensor,
    scales: Sequence[float],
    bins: tuple[int, int],
    ratio: int,
    aligned: bool,
    canonical: tuple[float, int] = (224.0, 4),
) -> Tensor:
    images, channels = features[0].shape[:2]
    format = pyramid_format(features)
    features = as_pyramid(features)
    sizes = [(each.shape[2], each.shape[3]) for each in features]
    sampling = sampling_of(boxes, scales, images, channels, sizes, bins, ratio, aligned, canonical)
    count = sampling.boxes.shape[0]
    output = torch.empty(
        (count, channels, *bins),
        dtype=features[0].dtype,
        device=features[0].device,
        memory_format=format,
    )
    if output.numel() == 0:
        return output
    if images == 0 or all(each.numel() == 0 for each in features):
        return output.zero_()
    channels_last = format == torch.channels_last
    reads_channels_last = channels_last or worth_turning(features, output)
    if reads_channels_last and not channels_last:
        features = [channels_last_of(each) for each in features]
    pool = _pool_samples if 0 < ratio <= UNROLLED else _pool_weights
    pool(features, sampling, output, reads_channels_last, channels_last)
    return output


def each_bytes(tensors: Sequence[Tensor]) -> int:
    return tensors[0].element_size()


def _pool_samples(
    features: Sequence[Tensor],
    sampling: Sampling,
    output: Tensor,
    channels_last: bool,
    out_channels_last: bool,
) -> None:
    count, channels, ph, pw = output.shape
    total = count * (ph + pw) * sampling.ratio
    offsets = torch.empty((2, total), dtype=torch.int32, device=output.device)
    weights = torch.empty((2, total), dtype=torch.float32, device=output.device)
    sizes = (sampling.heights, sampling.widths)
    block = 256
    launch(
        sampling_kernels.roi_samples,
        (-(-total // block),),
        *(sampling.boxes, sampling.levels, offsets, weights),
        *(count, sampling.images, scale_bits(sampling.scale), *sizes),
        config=Config.of(4, 1, BLOCK=block),
        PH=ph,
        PW=pw,
        RATIO=sampling.ratio,
        ALIGNED=sampling.aligned,
        LEVELS=len(features),
        enable_fp_fusion=False,
    )

    def run(config: Config, grid: tuple[int]) -> None:
        launch(
            kernels.roi_align_samples,
            grid,
            *(tuple(features), sampling.boxes, sampling.levels, offsets, weights, output),
            *(count, sampling.images, channels, *sizes),
            config=config,
            PH=ph,
            PW=pw,
            RATIO=sampling.ratio,
            LEVELS=len(features),
            ALIGNMENT=alignment(features),
            WIDE=wide(features),
            CHANNELS_LAST=channels_last,
            OUT_CHANNELS_LAST=out_channels_last,
        )

    taps = 4 * sampling.ratio**2
    run_rows(f"{sampling.ratio} samples", features, output, channels_last, taps, run)


def _pool_weights(
    features: Sequence[Tensor],
    sampling: Sampling,
    output: Tensor,
    channels_last: bool,
    out_channels_last: bool,
) -> None:
    count, channels, ph, pw = output.shape
    tables = weights_of(sampling)

    def run(config: Config, grid: tuple[int]) -> None:
        launch(
            kernels.roi_align_weights,
            grid,
            *(tuple(features), sampling.boxes, sampling.levels),
            *(tables.weights, tables.edges, output),
            *(count, sampling.images, channels, sampling.heights, sampling.widths),
            *tables.pitches,
            config=config,
            PH=ph,
            PW=pw,
            LEVELS=len(features),
            ALIGNMENT=alignment(features),
            WIDE=wide(features),
            CHANNELS_LAST=channels_last,
            OUT_CHANNELS_LAST=out_channels_last,
            UNROLL=2,
        )

    run_rows("weights", features, output, channels_last, 16, run)
