"""RoI Align, gradient of the maps: every tile of pixels gathers from the boxes that touch it.

Idea: no atomics and no order left to chance. A program owns TILE x TILE pixels x a block of
channels in registers and adds the boxes of its list (roi_tiles.py) in ascending order. Separable as
the forward: for one column of bins, the rows of bins that touch the tile are first added up for
each row of pixels, sum_i wy[i, y] * grad[i, j]; then every pixel adds wx[j, x] times that. A thread
has one row of pixels (y lies along lanes and warps, x in its registers), so the first sum costs it
one pixel and the second has its factor in a register: nothing passes shared memory. Which bins
touch a tile comes from roi_weights, and so do the weights. NCHW gradients come turned to channels
last (turn.py), and the finished tile is turned back in shared memory.

Predicted, H100, 1,000 boxes of 28 x 28 pixels, 256 channels, 7 x 7 bins, float16, map 200 x 336: a
box touches 20 tiles of 8 x 8, each with 3 x 3 bins, 450 instructions a thread and block of 128
channels: 72 M warp instructions, 110 us at 75 % of the issue rate, the bound; gradients from L2 20
x 9 x 512 bytes x 1,000: 92 MB, 17 us; memory 25 + 34 MB: 20 us. torchvision: 200 M atomic additions
in 50 M sectors, 350 to 600 us.
Source of the idea: kernels/cpu/roi_align_backward.cpp.

Not yet run on hardware.
"""

import triton
import triton.language as tl

from cvperf.kernels.triton.roi_tiles import find_tile, store_tile


@triton.jit(do_not_specialize=["images", "heights", "widths", "count", "pitch_y", "pitch_x"])
def roi_align_backward(
    grad,  # [count, PH, PW, channels]
    weights,  # float32 [count, PH, pitch_y], then [count, PW, pitch_x]: of roi_weights
    touching,  # int32 [count, (pitch_y + pitch_x) / TILE, 2]
    lists,
    begins,
    lengths,
    outputs,  # [LEVELS]: each map [images, height, width, channels] if CHANNELS_LAST, else NCHW
    count,
    images,
    channels,
    heights,
    widths,
    pitch_y,
    pitch_x,
    PH: tl.constexpr,
    PW: tl.constexpr,
    LEVELS: tl.constexpr,
    ALIGNMENT: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """Program: one tile, one block of channels; the blocks of a tile run side by side."""
    blocks = tl.cdiv(channels, BLOCK_CHANNELS)
    number = tl.program_id(0) // blocks
    level, image, row, column, height, width = find_tile(
        number, images, heights, widths, LEVELS, TILE
    )
    channel = tl.program_id(0) % blocks * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    channel_mask = (channel < channels)[None, None, :]
    y = row * TILE + tl.arange(0, TILE)
    x = column * TILE + tl.arange(0, TILE)
    # In three dimensions from the start: so the compiler gives loads, sums and stores one layout.
    each_row = tl.zeros((1, TILE, 1), tl.int32) + channel[None, None, :]
    columns = weights + count.to(tl.int64) * PH * pitch_y
    acc = tl.zeros((TILE, TILE, BLOCK_CHANNELS), tl.float32)
    begin = tl.load(begins + number)
    for n in range(0, tl.load(lengths + number)):
        k = tl.load(lists + begin + n).to(tl.int64)
        bins = touching + k * ((pitch_y + pitch_x) // TILE) * 2
        first_i = tl.load(bins + row * 2)
        last_i = tl.load(bins + row * 2 + 1)
        bins += pitch_y // TILE * 2
        first_j = tl.load(bins + column * 2)
        last_j = tl.load(bins + column * 2 + 1)
        for j in range(first_j, last_j):
            total = tl.zeros((1, TILE, BLOCK_CHANNELS), tl.float32)
            for i in range(first_i, last_i):
                wy = tl.load(weights + (k * PH + i) * pitch_y + y)
                at = grad + ((k * PH + i) * PW + j) * channels
                value = tl.load(at + each_row, mask=channel_mask, other=0.0)
                total += wy[None, :, None] * value.to(tl.float32)
            wx = tl.load(columns + (k * PW + j) * pitch_x + x)
            acc += wx[:, None, None] * total
    store_tile(
        *(outputs, acc, level, image, x, y, channel, height, width, channels),
        *(LEVELS, ALIGNMENT, CHANNELS_LAST),
    )
