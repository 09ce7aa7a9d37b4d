"""RoI max pooling in Triton, forward and gradient.

Nothing waits for the GPU: a box with an image index outside the batch is zeros, without positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cvperf.backends.channels import memory_format
from cvperf.backends.gpu.configs import Config
from cvperf.backends.gpu.model import Architecture, Tiles, roofline, seconds
from cvperf.backends.gpu.roi_sampling import Sampling, sampling_of, scale_bits, worth_turning
from cvperf.backends.registry import layout_of
from cvperf.backends.rois import check_grad
from cvperf.backends.triton import roi_rows
from cvperf.backends.triton.launch import launch
from cvperf.backends.triton.roi_sampling import block_bins, channels_last_of, wide
from cvperf.backends.triton.roi_tiles import boxes_of_tiles, lists_seconds
from cvperf.kernels.triton import roi_pool as kernels

TILE = 4
"""Pixels of a tile each way."""
BACKWARD = Config.of(1, 1, BLOCK_CHANNELS=32)
VALUE_INSTRUCTIONS = 4
"""For a value of a pixel: conversion, comparison, two selections (46 counted for 8, all in all)."""
BIN_INSTRUCTIONS, BOX_INSTRUCTIONS = 70, 80
"""Of the gradient's warp for a bin, and besides for a box (counted in what compiles)."""
BIN_PIXELS = 25
"""That a bin covers, if a box has 28 x 28 pixels and 7 x 7 bins: they overlap."""


def roi_pool(
    image: Tensor, boxes: Tensor, spatial_scale: float, pooled_height: int, pooled_width: int
) -> tuple[Tensor, Tensor]:
    images, channels, height, width = image.shape
    bins = (pooled_height, pooled_width)
    sampling = _sampling(boxes, spatial_scale, image.shape, bins)
    channels_last = layout_of(image) == "channels_last"
    format = memory_format(channels_last)
    image = image.contiguous(memory_format=format)
    shape = (boxes.shape[0], channels, *bins)
    output = torch.empty(shape, dtype=image.dtype, device=image.device, memory_format=format)
    argmax = torch.empty_like(output, dtype=torch.int32)
    if output.numel() == 0:
        return output, argmax
    if image.numel() == 0:
        return output.zero_(), argmax.fill_(-1)
    reads_channels_last = channels_last or worth_turning([image], output)
    if reads_channels_last and not channels_last:
        image = channels_last_of(image)
    edges = _bins(sampling, None).edges

    def run(config: Config, grid: tuple[int]) -> None:
        launch(
            kernels.roi_pool,
            grid,
            *(image, sampling.boxes, edges, output, argmax),
            *(boxes.shape[0], images, channels, height, width),
            config=config,
            PH=pooled_height,
            PW=pooled_width,
            WIDE=wide([image]),
            CHANNELS_LAST=reads_channels_last,
            OUT_CHANNELS_LAST=channels_last,
        )

    roi_rows.run_rows("roi_pool", [image], output, reads_channels_last, BIN_PIXELS, run)
    return output, argmax


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
    format = memory_format(channels_last)
    output = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=format)
    if grad.numel() == 0 or output.numel() == 0:
        return output.zero_()
    grad = grad.contiguous(memory_format=format)
    argmax = argmax.to(torch.int32).contiguous(memory_format=format)
    if not channels_last:
        grad, argmax = channels_last_of(grad), channels_last_of(argmax)
    tables = _bins(sampling, TILE)
    tiles = boxes_of_tiles(tables.places, tables.extents, batch_size, [(height, width)], TILE)
    launch(
        kernels.roi_pool_backward,
        (tiles.count * -(-channels // BACKWARD["BLOCK_CHANNELS"]),),
        *(grad, argmax, tables.touching, tiles.lists, tiles.begins, tiles.lengths, output),
        *(batch_size, channels, height, width),
        config=BACKWARD,
        PH=pooled_height,
        PW=pooled_width,
        CHANNELS_LAST=channels_last,
        TILE=TILE,
    )
    return output


def predicted_share(gpu: Architecture, boxes: int, channels: int, pixels: int, size: int) -> float:
    """Share of the roofline, memory's, that channels last with 7 x 7 bins should reach.

    Bound by issuing instructions, VALUE_INSTRUCTIONS for each value of each pixel of a bin. Stored
    are a value and its place, 4 bytes.
    """
    return roi_rows.predicted_share(
        *(gpu, boxes, 49, channels, pixels, size, "half" if size == 2 else "float32"),
        taps=BIN_PIXELS,
        each_value=VALUE_INSTRUCTIONS,
        stored_bytes=size + 4,
    )


def predicted_backward_share(
    gpu: Architecture, boxes: int, channels: int, pixels: int, size: int
) -> float:
    """Share of the roofline, memory's, that the gradient with 7 x 7 bins should reach.

    Bound by issuing instructions, unless by L2: a box of 28 x 28 pixels touches 64 tiles of 4 x 4,
    with 3 bins in each, and every pixel of the tile compares its place with each bin's. The tiles'
    lists come first. Boxes are taken to be spread over all tiles.
    """
    values = boxes * 49 * channels
    memory_bytes = values * (size + 4) + pixels * channels * size
    block, blocks = BACKWARD["BLOCK_CHANNELS"], -(-channels // BACKWARD["BLOCK_CHANNELS"])
    hits, count = 64 * boxes * blocks, -(-pixels // TILE**2) * blocks
    a_hit = BOX_INSTRUCTIONS + 3 * BIN_INSTRUCTIONS
    tiles = Tiles(
        count=count,
        operations=hits / count * a_hit,
        kind="issue",
        l2_bytes=hits / count * 3 * block * (size + 4),
        memory_bytes=memory_bytes,
        blocks=32,  # of one warp
        efficiency=0.8,
    )
    taken = lists_seconds(gpu, count // blocks, boxes) + seconds(gpu, tiles, launches=3)
    return roofline(gpu, 0.0, "float32", memory_bytes) / taken


def _sampling(
    boxes: Tensor, scale: float, shape: tuple[int, ...], bins: tuple[int, int]
) -> Sampling:
    images, channels, *size = shape
    return sampling_of(boxes, [scale], images, channels, [(size[0], size[1])], bins)


@dataclass(frozen=True)
class _Bins:
    """Tables of roi_pool_bins; its signature says what they hold."""

    edges: Tensor
    touching: Tensor
    extents: Tensor
    places: Tensor


def _bins(sampling: Sampling, tile: int | None) -> _Bins:
    """Runs roi_pool_bins; with the tables by pixel if ``tile`` is given."""
    count, (ph, pw) = sampling.boxes.shape[0], sampling.bins
    height, width = sampling.heights[0], sampling.widths[0]
    by_pixel = count if tile else 0
    each = -(-height // (tile or 1)) + -(-width // (tile or 1))

    def table(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.int32, device=sampling.boxes.device)

    tables = _Bins(
        table(count, ph + pw, 2), table(by_pixel, each, 2), table(4, by_pixel), table(by_pixel)
    )
    launch(
        kernels.roi_pool_bins,
        (count, 2),
        *(sampling.boxes, tables.edges, tables.touching, tables.extents, tables.places),
        *(count, sampling.images, scale_bits(sampling.scale), height, width),
        config=Config.of(1, 1, BINS=block_bins(sampling), BLOCK=16),
        PH=ph,
        PW=pw,
        BY_PIXEL=bool(by_pixel),
        TILE=tile or 1,
    )
    return tables
