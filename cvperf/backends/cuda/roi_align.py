"""RoI Align in CUDA C++, forward, on one map or a pyramid of them.

Nothing waits for the GPU: an image index outside the batch is not refused there, its box is zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.backends.cuda.launch import Kernel, launch
from cvperf.backends.cuda.roi_model import HELD
from cvperf.backends.cuda.roi_sampling import (
    TYPES,
    Canonical,
    channels_last_of,
    check_offsets,
    levels_in_kernel,
    packed_maps,
    packed_sampling,
    vector_of,
)
from cvperf.backends.gpu.machine import machine
from cvperf.backends.gpu.model import Architecture
from cvperf.backends.gpu.roi_sampling import Sampling, sampling_of, worth_turning
from cvperf.backends.pyramid import as_pyramid, pyramid_format
from cvperf.errors import ArgumentError

THREADS = 256
WAVES = 3
"""Blocks that there should be for each that the processors hold: where boxes are few, their
channels are split. A slice more makes a box's tables once more."""


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
    canonical: Canonical = (224.0, 4),
) -> Tensor:
    images, channels = features[0].shape[:2]
    format = pyramid_format(features)
    features = as_pyramid(features)
    sizes = [(each.shape[2], each.shape[3]) for each in features]
    chosen = levels_in_kernel(boxes, canonical)
    sampling = sampling_of(boxes, scales, images, channels, sizes, bins, ratio, aligned, chosen)
    output = torch.empty(
        (boxes.shape[0], channels, *bins),
        dtype=features[0].dtype,
        device=features[0].device,
        memory_format=format,
    )
    if output.numel() == 0:
        return output
    if images == 0 or all(each.numel() == 0 for each in features):
        return output.zero_()
    channels_last = format == torch.channels_last
    if not channels_last and worth_turning(features, output):
        features = [channels_last_of(each) for each in features]
        _pool(features, sampling, canonical, output, _vectors(features, output, turned=True))
    elif channels_last:
        _pool(features, sampling, canonical, output, _vectors(features, output, turned=False))
    else:
        _pool(features, sampling, canonical, output, (f"roi_align_planes<{_type(output)}>", 1, 1))
    return output


def _type(tensor: Tensor) -> str:
    return TYPES[tensor.dtype]


def _vectors(features: Sequence[Tensor], output: Tensor, turned: bool) -> tuple[str, int, int]:
    """The kernel of maps in channels last, channels a thread takes and a block at a time."""
    channels = output.shape[1]
    vector = vector_of([*features] if turned else [*features, output], channels)
    check_offsets(features, vector)
    return f"roi_align<{_type(output)}, {vector}, {str(turned).lower()}>", vector, 8 * vector


def _pool(
    features: Sequence[Tensor],
    sampling: Sampling,
    canonical: Canonical,
    output: Tensor,
    kernel: tuple[str, int, int],
) -> None:
    name, _, group = kernel
    count, channels = output.shape[:2]
    gpu = machine(output.device)
    slots = table_slots(sampling)
    shared = 8 * (sum(slots) + sum(sampling.bins))
    if shared > gpu.shared_bytes - 8192:  # what the kernel has besides
        raise ArgumentError(
            f"{sampling.bins} bins with sampling_ratio {sampling.ratio} of maps of up to "
            f"{max(sampling.heights)} x {max(sampling.widths)} pixels take {shared} bytes of "
            f"shared memory, of {gpu.shared_bytes}: take fewer bins or samples, or use "
            "cvperf.backends.registry.prefer('triton')"
        )
    launch(
        Kernel("roi_align.cu", name),
        (count, slices_of(gpu, count, channels, group)),
        THREADS,
        *(packed_sampling(sampling, canonical), packed_maps(features)),
        *(sampling.boxes, sampling.levels, output, channels, *slots),
        shared_bytes=shared,
    )


def slices_of(gpu: Architecture, count: int, channels: int, group: int) -> int:
    """Blocks that share the channels of a box, which come in groups."""
    wanted = math.ceil(WAVES * HELD * gpu.processors / count)
    return min(math.ceil(channels / group), wanted, 65535)


def table_slots(sampling: Sampling) -> tuple[int, int]:
    """Room for the lists of rows and of columns of any box: ``first_slot`` of the kernel."""

    def slots(bins: int, pixels: int) -> int:
        if sampling.ratio > 0:
            return bins * min(2 * sampling.ratio, pixels)
        return pixels + 4 * bins

    ph, pw = sampling.bins
    return slots(ph, max(sampling.heights)), slots(pw, max(sampling.widths))
