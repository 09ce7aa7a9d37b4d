"""How long the CUDA kernels of RoI Align should take, by the analytical model.

A box is taken to have 28 x 28 pixels on its map, and 7 x 7 bins of 2 x 2 samples where nothing else
is said: four rows and four columns a bin, none of which its neighbours read. Instructions are
counted in what compiles for sm_90.

Predicted, H100, 1,000 boxes, 256 channels, float16, a map of 200 x 336, channels last.

Forward: 49,000 bins x 16 pixels x 23 instructions of a warp, and 1,600 for the tables of each block
of two slices: 22 M, 32 us at 80 % of the issue rate. Every pixel of a box passes the second-level
cache once, 401 MB, and 25 MB are written: 61 us at 7 TB/s, the bound. Memory: 59 MB, 20 us.
torchvision, a thread a value: 220 us.

Backward: a box touches 20 tiles, in which 29 rows of pixels take it in for 1,130 instructions each
(10 pairs of a tile and a column of bins, 35 pixels and their weights): 34 M in all, and 2 M to find
the boxes of the tiles: 66 us at 65 % of the issue rate, the bound; the tables of weights 4 us
before. Gradients leave the second-level cache 92 MB, 13 us; memory 59 MB, 20 us. torchvision: 200 M
atomic additions, 350 to 600 us.
"""

from __future__ import annotations

import math

from cvperf.backends.gpu.model import Architecture, Tiles, roofline, seconds

BOX_PIXELS = 28
"""Each way, of a box on its map."""
TABLE_INSTRUCTIONS = 1600
"""Of a block of roi_align before its first pixel, all warps together."""
PIXEL_INSTRUCTIONS = 7
"""For a vector of a pixel beside its values': address, zeros, load, weight, loop."""
BIN_INSTRUCTIONS = 80
"""For a vector of a bin: which, its lists, its store."""
HELD = 4
"""Blocks of roi_align that a processor holds."""
SCAN_INSTRUCTIONS = 45
"""Of a warp for 32 boxes that might touch its tile, barriers included."""
WEIGHTS_INSTRUCTIONS = 3000
"""Of a block of roi_weights."""
POOL_PIXELS = 25
"""That a bin of RoI pooling covers, of 7 x 7: they overlap."""


def each_value(size: int) -> int:
    """Instructions for a value of a pixel: its conversion, if it is a half type, and a sum."""
    return 2 if size == 2 else 1


def forward_seconds(
    gpu: Architecture,
    boxes: int,
    bins: int,
    channels: int,
    slices: int,
    map_values: int,
    size: int,
    *,
    planes: bool = False,
    pixels: int = 16,
) -> float:
    """Seconds of roi_align or roi_align_planes.

    Args:
        gpu: where.
        boxes: of the call.
        bins: of a box, all of them.
        channels: of the maps.
        slices: blocks of a box.
        map_values: that must be read from memory at least once.
        size: bytes of a value.
        planes: a load takes one value and moves a sector of 32 bytes for every second.
        pixels: that a bin reads.
    """
    vector = 1 if planes else 16 // size
    a_vector = pixels * (each_value(size) * vector + PIXEL_INSTRUCTIONS) + BIN_INSTRUCTIONS
    vectors = bins * channels / vector
    fetched = 16 if planes else size
    read = min(bins * pixels, (BOX_PIXELS + 1) ** 2) * channels * fetched
    tiles = Tiles(
        count=boxes * slices,
        operations=vectors * a_vector / 32 / slices + TABLE_INSTRUCTIONS,
        kind="issue",
        l2_bytes=(read + bins * channels * size) / slices,
        memory_bytes=(map_values + boxes * bins * channels) * size,
        blocks=HELD,
        efficiency=0.8,
        l1_bytes=bins * pixels * channels * fetched / slices,
    )
    return seconds(gpu, tiles)


def forward_share(
    gpu: Architecture,
    boxes: int,
    bins: int,
    channels: int,
    slices: int,
    map_pixels: int,
    size: int,
    *,
    planes: bool = False,
    pixels: int = 16,
    before: float = 0.0,
) -> float:
    """Share of memory's roofline: the pixels under the boxes, each once, and what is stored."""
    read = min(map_pixels, boxes * BOX_PIXELS**2) * channels
    least = roofline(gpu, 0.0, "float32", (read + boxes * bins * channels) * size)
    values = (boxes, bins, channels, slices, read, size)
    return least / (before + forward_seconds(gpu, *values, planes=planes, pixels=pixels))


def backward_seconds(
    gpu: Architecture, boxes: int, channels: int, slices: int, map_pixels: int, size: int
) -> float:
    """Seconds of roi_weights and roi_align_backward, 7 x 7 bins."""
    vector, tile, bins = 16 // size, 8, 7
    across = (BOX_PIXELS + tile - 1) / tile  # tiles that a box touches in a row of them
    pairs = bins + across - 1  # of a tile and a bin, in such a row
    a_bin = 33 + 1.3 * (each_value(size) * vector + 8)  # 1.3 rows of bins touch a row of pixels
    a_row = 40 * across + pairs * a_bin + 1.25 * BOX_PIXELS * vector
    idle = (across * tile - BOX_PIXELS - 1) * 40 * across  # rows of tiles that the box leaves out
    a_box = ((BOX_PIXELS + 1) * a_row + idle) * slices
    count = max(1, round(map_pixels / tile**2)) * slices
    scan = math.ceil(boxes / 256) * 8 * SCAN_INSTRUCTIONS
    tiles = Tiles(
        count=count,
        operations=boxes * a_box / count + scan,
        kind="issue",
        l2_bytes=boxes * across**2 * 9 * channels * size / count,
        memory_bytes=(boxes * bins**2 + map_pixels) * channels * size,
        blocks=2,
        efficiency=0.65,
    )
    weights = Tiles(boxes, WEIGHTS_INSTRUCTIONS, "issue", 0.0, 0.0, blocks=12, efficiency=0.6)
    return seconds(gpu, weights) + seconds(gpu, tiles)


def backward_share(
    gpu: Architecture,
    boxes: int,
    channels: int,
    slices: int,
    map_pixels: int,
    size: int,
    before: float = 0.0,
) -> float:
    """Share of memory's roofline: gradients in, maps out."""
    least = roofline(gpu, 0.0, "float32", (boxes * 49 + map_pixels) * channels * size)
    return least / (before + backward_seconds(gpu, boxes, channels, slices, map_pixels, size))


def pool_share(
    gpu: Architecture, boxes: int, channels: int, slices: int, map_pixels: int, size: int
) -> float:
    """Share of memory's roofline of roi_pool, 7 x 7 bins; a value and its place are stored.

    Bound by issuing instructions: four for a value of a pixel, which is converted, compared and
    perhaps kept with its place.
    """
    vector, bins = 16 // size, 49
    read = min(map_pixels, boxes * BOX_PIXELS**2) * channels
    a_vector = POOL_PIXELS * (4 * vector + PIXEL_INSTRUCTIONS) + BIN_INSTRUCTIONS
    memory_bytes = read * size + boxes * bins * channels * (size + 4)
    tiles = Tiles(
        count=boxes * slices,
        operations=bins * channels / vector * a_vector / 32 / slices + TABLE_INSTRUCTIONS / 2,
        kind="issue",
        l2_bytes=((BOX_PIXELS + 1) ** 2 * size + bins * (size + 4)) * channels / slices,
        memory_bytes=memory_bytes,
        blocks=HELD,
        efficiency=0.8,
        l1_bytes=bins * POOL_PIXELS * channels * size / slices,
    )
    return roofline(gpu, 0.0, "float32", memory_bytes) / seconds(gpu, tiles)


def pool_backward_share(
    gpu: Architecture, boxes: int, channels: int, map_pixels: int, size: int
) -> float:
    """Share of memory's roofline of roi_pool_bins and roi_pool_backward, 7 x 7 bins.

    A box touches 40 runs of 64 pixels, with 8 bins in each of 12 instructions, and 30 for the box.
    """
    run, threads = 64, 128
    slices = math.ceil(channels / threads)
    count = math.ceil(map_pixels / run) * slices
    memory_bytes = boxes * 49 * channels * (size + 4) + map_pixels * channels * size
    hits = 40 * boxes * slices
    scan = math.ceil(boxes / threads) * 4 * 3 * SCAN_INSTRUCTIONS  # bins are looked through
    tiles = Tiles(
        count=count,
        operations=hits / count * 4 * (8 * 12 + 30) + scan + 4 * 5 * run,
        kind="issue",
        l2_bytes=hits / count * 8 * threads * (size + 4),
        memory_bytes=memory_bytes,
        blocks=6,
        efficiency=0.65,
    )
    return roofline(gpu, 0.0, "float32", memory_bytes) / seconds(gpu, tiles, launches=2)
