"""RoI max pooling in CUDA C++, forward and gradient.

Nothing waits for the GPU: a box with an image index outside the batch is zeros, without positions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cvperf.backends.channels import memory_format
from cvperf.backends.cuda.launch import Kernel, launch
from cvperf.backends.cuda.roi_align import slices_of
from cvperf.backends.cuda.roi_sampling import (
    TYPES,
    channels_last_of,
    check_offsets,
    packed_sampling,
    planes_of,
    vector_of,
)
from cvperf.backends.gpu.machine import machine
from cvperf.backends.gpu.roi_sampling import Sampling, sampling_of
from cvperf.backends.registry import layout_of
from cvperf.backends.rois import check_grad

RUN, RUN_CHANNELS = 64, 128
"""Pixels and channels of a block of the gradient: ``kRun`` and ``kRunThreads`` of the kernel."""
FILE = "roi_pool.cu"


def roi_pool(
    image: Tensor, boxes: Tensor, spatial_scale: float, pooled_height: int, pooled_width: int
) -> tuple[Tensor, Tensor]:
    bins = (pooled_height, pooled_width)
    sampling = _sampling(boxes, spatial_scale, image.shape, bins)
    channels_last = layout_of(image) == "channels_last"
    format, (count, channels) = memory_format(channels_last), (boxes.shape[0], image.shape[1])
    output = torch.empty(
        (count, channels, *bins),
        dtype=image.dtype,
        device=image.device,
        memory_format=torch.channels_last,
    )
    argmax = torch.empty_like(output, dtype=torch.int32)
    if output.numel() == 0 or image.numel() == 0:
        output, argmax = (each.contiguous(memory_format=format) for each in (output, argmax))
        return output.zero_(), argmax.fill_(-1)
    image = image.contiguous(memory_format=format)
    if not channels_last:
        image = channels_last_of(image)
    vector = vector_of([image, output], channels)
    check_offsets([image], vector)
    launch(
        Kernel(FILE, f"roi_pool<{TYPES[image.dtype]}, {vector}>"),
        (count, slices_of(machine(image.device), count, channels, 8 * vector)),
        256,
        *(packed_sampling(sampling, (224.0, 4)), image, sampling.boxes, output, argmax, channels),
        shared_bytes=8 * sum(bins),
    )
    return (output, argmax) if channels_last else (planes_of(output), planes_of(argmax))


def roi_pool_backward(
    grad: Tensor,
    boxes: Tensor,
    argmax: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    batch_size: int,
    channels: int,
    height: int,
    width: int,
) -> Tensor:
    """``argmax`` is what ``roi_pool`` gave for these boxes: each adds to its own pixels only."""
    shape, bins = (batch_size, channels, height, width), (pooled_height, pooled_width)
    sampling = _sampling(boxes, spatial_scale, shape, bins)
    check_grad("grad", grad, boxes, channels, bins)
    check_grad("argmax", argmax, boxes, channels, bins)
    channels_last = layout_of(grad) == "channels_last"
    format, count, device = memory_format(channels_last), boxes.shape[0], grad.device
    output = torch.empty(shape, dtype=grad.dtype, device=device, memory_format=format)
    if grad.numel() == 0 or output.numel() == 0:
        return output.zero_()
    grad = grad.contiguous(memory_format=format)
    argmax = argmax.to(torch.int32).contiguous(memory_format=format)
    if not channels_last:
        grad, argmax = channels_last_of(grad), channels_last_of(argmax)
    packed = packed_sampling(sampling, (224.0, 4))
    edges = torch.empty((count, sum(bins), 2), dtype=torch.int32, device=device)
    places = torch.empty(count, dtype=torch.int32, device=device)
    launch(
        Kernel(FILE, "roi_pool_bins"),
        (math.ceil(count * sum(bins) / 256),),
        256,
        *(packed, sampling.boxes, edges, places, count),
    )
    launch(
        Kernel(FILE, f"roi_pool_backward<{TYPES[grad.dtype]}>"),
        (batch_size * math.ceil(height * width / RUN), math.ceil(channels / RUN_CHANNELS)),
        RUN_CHANNELS,
        *(packed, grad, argmax, edges, places, output, count, channels, int(channels_last)),
    )
    return output


def _sampling(
    boxes: Tensor, scale: float, shape: tuple[int, ...], bins: tuple[int, int]
) -> Sampling:
    images, channels, *size = shape
    return sampling_of(boxes, [scale], images, channels, [(size[0], size[1])], bins)
