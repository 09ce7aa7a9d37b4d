"""RoI Align in Triton, gradient of one map or of a pyramid of them.

Nothing waits for the GPU: a box with an image index outside the batch adds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.backends.channels import memory_format
from cvperf.backends.gpu.configs import Config, Space, bucket
from cvperf.backends.gpu.machine import machine
from cvperf.backends.gpu.model import Architecture, Tiles, roofline, seconds
from cvperf.backends.gpu.roi_sampling import alignment, sampling_of
from cvperf.backends.registry import layout_of
from cvperf.backends.rois import check_grad
from cvperf.backends.triton.configs import config_for
from cvperf.backends.triton.launch import launch
from cvperf.backends.triton.roi_sampling import channels_last_of, weights_of, weights_seconds
from cvperf.backends.triton.roi_tiles import boxes_of_tiles, lists_seconds
from cvperf.kernels.triton import roi_align_backward as kernels

TILE = 8
"""Pixels of a tile each way."""
REGISTERS = 128
"""Of a thread: 16 warps a processor, and no spills (left alone, the assembler aims elsewhere)."""

# A thread has one row of a tile's pixels for 16 bytes of channels; fewer channels, fewer warps.
_SHIPPED = {
    "half": Config.of(4, 1, BLOCK_CHANNELS=128),
    "float32": Config.of(4, 1, BLOCK_CHANNELS=64),
}
_MORE = (
    Config.of(2, 1, BLOCK_CHANNELS=64),
    Config.of(2, 1, BLOCK_CHANNELS=32),
    Config.of(8, 1, BLOCK_CHANNELS=128),
)
SPACE = Space(
    "roi_align_backward",
    shipped={80: _SHIPPED, 90: _SHIPPED, 100: _SHIPPED},
    # NCHW: a tile passes shared memory on its way out.
    shared_bytes=lambda config: int(4 * TILE**2 * config["BLOCK_CHANNELS"]),
    more={80: _MORE, 90: _MORE, 100: _MORE},
)


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
    format = memory_format(channels_last)
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

    def run(config: Config) -> None:
        launch(
            kernels.roi_align_backward,
            (tiles.count * math.ceil(channels / config["BLOCK_CHANNELS"]),),
            *(grad, tables.weights, tables.touching, tiles.lists, tiles.begins, tiles.lengths),
            *(tuple(outputs), boxes.shape[0], batch_size, channels),
            *(sampling.heights, sampling.widths, *tables.pitches),
            config=config,
            PH=pooled_height,
            PW=pooled_width,
            LEVELS=len(sizes),
            ALIGNMENT=alignment(outputs),
            CHANNELS_LAST=channels_last,
            TILE=TILE,
            maxnreg=REGISTERS,
        )

    gpu, size, pixels = machine(grad.device), grad.element_size(), tiles.count * TILE**2
    kind = "half" if size == 2 else "float32"
    call = f"{bucket(boxes.shape[0], channels, pixels)} {grad.dtype} {pooled_height}"

    def predict(config: Config) -> float:
        return predicted(gpu, config, grad.numel(), channels, pixels, size)

    run(config_for(SPACE, kind, call, gpu, predict, run))
    return outputs


def predicted(
    gpu: Architecture,
    config: Config,
    grads: int,
    channels: int,
    pixels: int,
    value_bytes: int,
) -> float:
    """Seconds by the analytical model.

    A box is taken to have 28 x 28 pixels and 7 x 7 bins: it touches 20 tiles, with 3 x 3 bins in
    each. A bin is two instructions a value and 21 in all for 8; then each of a row's pixels adds.
    """
    block, vector = config["BLOCK_CHANNELS"], 16 // value_bytes
    boxes = grads / (49 * channels)
    blocks = math.ceil(channels / block)
    a_thread = 30 + 3 * (3 * (2 * vector + 5) + TILE * vector + 15)
    threads = TILE * block / vector  # one row of pixels each
    count = max(1, round(pixels / TILE**2)) * blocks
    hits = 20 * boxes * blocks
    tiles = Tiles(
        count=count,
        operations=hits / count * a_thread * threads / 32,
        kind="issue",
        l2_bytes=hits / count * 9 * block * value_bytes,
        memory_bytes=(grads + pixels * channels) * value_bytes,
        blocks=max(1, 16 // config.num_warps),
        efficiency=0.8,
    )
    return seconds(gpu, tiles, launches=3)


def predicted_share(
    gpu: Architecture, grads: int, channels: int, pixels: int, size: int, before: float = 0.0
) -> float:
    """Share of the roofline that the shipped configuration should reach.

    The roofline is memory's: gradients in, maps out. Issuing instructions takes longer: every tile
    that a box touches works on all of its pixels, and the tables come first.

    Args:
        gpu: where.
        grads: values of the gradient, of boxes as ``predicted`` takes them, spread over all maps.
        channels: of the maps.
        pixels: of all maps.
        size: bytes of a value.
        before: seconds of other kernels that run first, with their launches.
    """
    config, boxes = SPACE.default(gpu, "half" if size == 2 else "float32"), grads // (49 * channels)
    tables = weights_seconds(gpu, boxes) + lists_seconds(gpu, pixels // TILE**2, boxes)
    least = roofline(gpu, 0.0, "float32", (grads + pixels * channels) * size)
    return least / (before + tables + predicted(gpu, config, grads, channels, pixels, size))
