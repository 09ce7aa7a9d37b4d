"""What a call of RoI Align or RoI pooling comes to on a GPU, in whichever language."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cvperf.backends.gpu.model import LAUNCH_S, Architecture
from cvperf.backends.pyramid import pyramid_levels
from cvperf.errors import ArgumentError, describe

MOST_BINS = 1024
"""Each way: the kernels hold the bins of an axis in registers."""


@dataclass(frozen=True)
class Sampling:
    """What all kernels of a call need to know.

    Attributes:
        boxes: float32 [K, 5].
        levels: int32 [K], each box's map; None if there is but one, or kernels choose.
        images: of every map.
        heights, widths: of the maps.
        scale: of the first map; it halves from one to the next.
        bins: height and width.
        ratio: samples a bin and axis; 0 or less: adaptive.
        aligned: shifted by half a pixel.
    """

    boxes: Tensor
    levels: Tensor | None
    images: int
    heights: tuple[int, ...]
    widths: tuple[int, ...]
    scale: float
    bins: tuple[int, int]
    ratio: int
    aligned: bool


def sampling_of(
    boxes: Tensor,
    scales: Sequence[float],
    images: int,
    channels: int,
    sizes: Sequence[tuple[int, int]],
    bins: tuple[int, int],
    ratio: int = 1,
    aligned: bool = False,
    canonical: tuple[float, int] | None = (224.0, 4),
) -> Sampling:
    """Checks what can be checked without waiting for the GPU.

    ``canonical`` None: the kernels choose the levels themselves.

    Raises:
        ArgumentError: shapes do not fit, or there are more than ``MOST_BINS`` bins.
    """
    if boxes.dim() != 2 or boxes.shape[1] != 5:
        raise ArgumentError(f"boxes must be boxes[K, 5], got {describe(boxes)}")
    if min(images, channels, *(min(size) for size in sizes)) < 0 or min(bins) < 1:
        raise ArgumentError(
            f"sizes must not be negative and bins at least 1 each way: maps are "
            f"{[[images, channels, *size] for size in sizes]}, bins are {list(bins)}"
        )
    if max(bins) > MOST_BINS or any(height * width >= 2**31 for height, width in sizes):
        raise ArgumentError(
            f"maps of {sizes} pixels with {bins[0]} x {bins[1]} bins are too large: expected fewer "
            f"than 2**31 pixels and at most {MOST_BINS} bins each way on a GPU"
        )
    return Sampling(
        boxes.to(torch.float32).contiguous(),
        pyramid_levels(boxes, scales, *canonical) if canonical and len(scales) > 1 else None,
        images,
        tuple(height for height, _ in sizes),
        tuple(width for _, width in sizes),
        scales[0],
        bins,
        ratio,
        aligned,
    )


def scale_bits(scale: float) -> int:
    """A float64 as an integer: Triton would pass a float as float32."""
    return int(struct.unpack("<q", struct.pack("<d", scale))[0])


def turning_seconds(gpu: Architecture, size: int, tensors: int = 1) -> float:
    """Predicted seconds of turning planes to channels last, ``size`` bytes in all.

    Bound by memory, which they pass once in and once out.
    """
    return 2 * size / gpu.memory_rate + tensors * LAUNCH_S


def worth_turning(features: Sequence[Tensor], output: Tensor) -> bool:
    """Whether the maps are turned to channels last first; by the estimates of the kernels' notes.

    Turning passes a value of the maps through memory twice, 3 ps on an H100; a value of the output
    from planes of pixels takes 14 ps more than one from channels last.
    """
    return 14 * output.numel() > 3 * sum(each.numel() for each in features)


def alignment(tensors: Sequence[Tensor]) -> int:
    """Bytes that every tensor's address is a multiple of, at most 16."""
    aligned = all(each.data_ptr() % 16 == 0 for each in tensors)
    return 16 if aligned else tensors[0].element_size()
