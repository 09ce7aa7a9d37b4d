"""RoI Align, forward: tiles of (bins of any boxes) x (channels).

Idea: bins of all boxes are one long list of rows, [box, bin], as the rows of a matrix product; a
program takes a tile of rows and channels, and so none is left over but at the very end. What a row
needs, pixel offsets and weights, comes ready from roi_sampling.py: it is worked out once for all
channels. Accumulation is float32.

Channels last, few samples a bin: all taps of a bin unrolled, each a load of 16 bytes a thread and 8
FMAs (half types) with the row's offset and weight in registers. Tiles are as wide as a cache line
and as high as a box, so that a pixel that several bins of a box read comes from L1 all but once.
Adaptive, or many samples: each bin is the product of a row and a column of weights with the pixels
that it covers; neighbouring samples share pixels, so (g + 2)^2 loads replace 4 g^2.

NCHW: where boxes read much of the map, the map is first turned to channels last (two passes of it
through memory, against gathers that use 2 of 32 bytes); else lanes lie along bins, whose pixels lie
near each other in a row. Either way the tile is turned back in shared memory as it is stored.

Predicted, H100, 1,000 boxes, 256 channels, 7 x 7 bins of 2 x 2 samples, float16, map 200 x 336:
49,000 rows x 16 taps x 33 instructions a warp (counted in what compiles; 8 of them add, 8 convert)
are 27 M: 40 us at 80 % of the issue rate; second-level cache 230 MB (28-pixel boxes) at 5.5 TB/s:
42 us; memory 59 MB: 20 us. So 0.4 of memory's roofline. torchvision, one thread a value, about 50 M
line accesses of L1: 220 us. NCHW adds 23 us of turning the map.
Source of the idea: the separable sampling of kernels/cpu/roi_align.cpp.

Not yet run on hardware.
"""

import triton
import triton.language as tl

from cvperf.kernels.triton.roi_rows import (
    along_channels,
    along_rows,
    maps_of_rows,
    rows_and_channels,
    store_rows,
)
from cvperf.kernels.triton.roi_sampling import level_of, of_level


@triton.jit(do_not_specialize=["count", "images", "heights", "widths"])
def roi_align_samples(
    features,  # [LEVELS]: each map [images, height, width, channels] if CHANNELS_LAST, else NCHW
    boxes,  # float32 [count, 5]
    levels,  # int32 [count] if LEVELS > 1
    offsets,  # int32 [2, samples]: of roi_samples
    weights,  # float32 [2, samples]
    output,  # [count, PH * PW, channels] if OUT_CHANNELS_LAST, else [count, channels, PH * PW]
    count,
    images,
    channels,
    heights,
    widths,
    PH: tl.constexpr,
    PW: tl.constexpr,
    RATIO: tl.constexpr,
    LEVELS: tl.constexpr,
    ALIGNMENT: tl.constexpr,
    WIDE: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    OUT_CHANNELS_LAST: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """Bins of RATIO x RATIO samples."""
    bins: tl.constexpr = PH * PW
    row, row_mask, channel, channel_mask = rows_and_channels(
        count * bins, channels, BLOCK_ROWS, BLOCK_CHANNELS
    )
    k = row // bins
    base, plane = maps_of_rows(
        features, boxes, levels, k, row_mask, images, heights, widths, channels, LEVELS, ALIGNMENT
    )
    rows_total = count * (PH * RATIO)
    total = rows_total + count * (PW * RATIO)
    y_sample = (k * PH + row % bins // PW) * RATIO
    x_sample = rows_total + (k * PW + row % PW) * RATIO
    if CHANNELS_LAST:
        at_channel = along_channels(channel, True)
    else:
        at_channel = along_channels(channel, False).to(tl.int64) * along_rows(plane, False)
    pixels = along_rows(base, CHANNELS_LAST) + at_channel
    channel_mask = along_channels(channel_mask, CHANNELS_LAST)
    if CHANNELS_LAST:
        acc = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    else:
        acc = tl.zeros((BLOCK_CHANNELS, BLOCK_ROWS), tl.float32)
    for i in tl.static_range(2 * RATIO):
        y_tap = i % 2 * total + y_sample + i // 2
        y = tl.load(offsets + y_tap, mask=row_mask, other=-1)
        wy = tl.load(weights + y_tap, mask=row_mask, other=0.0)
        for j in tl.static_range(2 * RATIO):
            x_tap = j % 2 * total + x_sample + j // 2
            x = tl.load(offsets + x_tap, mask=row_mask, other=-1)
            wx = tl.load(weights + x_tap, mask=row_mask, other=0.0)
            inside = along_rows((y >= 0) & (x >= 0), CHANNELS_LAST)
            pixel = y + x
            if WIDE:
                pixel = pixel.to(tl.int64)
            if CHANNELS_LAST:
                pixel = pixel * channels
            value = tl.load(
                pixels + along_rows(pixel, CHANNELS_LAST), mask=inside & channel_mask, other=0.0
            )
            acc += along_rows(wy * wx, CHANNELS_LAST) * value.to(tl.float32)
    mask = along_rows(row_mask, CHANNELS_LAST) & channel_mask
    store_rows(output, acc, row, channel, mask, bins, channels, CHANNELS_LAST, OUT_CHANNELS_LAST)


@triton.jit(do_not_specialize=["count", "images", "heights", "widths", "pitch_y", "pitch_x"])
def roi_align_weights(
    features,  # as for roi_align_samples
    boxes,
    levels,
    weights,  # float32 [count, PH, pitch_y], then [count, PW, pitch_x]: of roi_weights
    edges,  # int32 [count, PH + PW, 2]
    output,
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
    WIDE: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    OUT_CHANNELS_LAST: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    UNROLL: tl.constexpr,
):
    """Bins of any number of samples: each pixel of a bin once."""
    bins: tl.constexpr = PH * PW
    row, row_mask, channel, channel_mask = rows_and_channels(
        count * bins, channels, BLOCK_ROWS, BLOCK_CHANNELS
    )
    k = row // bins
    base, plane = maps_of_rows(
        features, boxes, levels, k, row_mask, images, heights, widths, channels, LEVELS, ALIGNMENT
    )
    width = of_level(widths, level_of(levels, k, row_mask, LEVELS), LEVELS)
    y_bin = row % bins // PW
    x_bin = row % PW
    y_edge = edges + (k * (PH + PW) + y_bin) * 2
    x_edge = edges + (k * (PH + PW) + PH + x_bin) * 2
    y_low = tl.load(y_edge, mask=row_mask, other=0)
    y_high = tl.load(y_edge + 1, mask=row_mask, other=0)
    x_low = tl.load(x_edge, mask=row_mask, other=0)
    x_high = tl.load(x_edge + 1, mask=row_mask, other=0)
    y_weights = weights + (k * PH + y_bin).to(tl.int64) * pitch_y
    x_weights = (
        weights + count.to(tl.int64) * PH * pitch_y + (k * PW + x_bin).to(tl.int64) * pitch_x
    )
    if CHANNELS_LAST:
        at_channel = along_channels(channel, True)
    else:
        at_channel = along_channels(channel, False).to(tl.int64) * along_rows(plane, False)
    pixels = along_rows(base, CHANNELS_LAST) + at_channel
    channel_mask = along_channels(channel_mask, CHANNELS_LAST)
    if CHANNELS_LAST:
        acc = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    else:
        acc = tl.zeros((BLOCK_CHANNELS, BLOCK_ROWS), tl.float32)
    most_columns = tl.max(x_high - x_low)
    for i in range(0, tl.max(y_high - y_low)):
        y = y_low + i
        in_rows = y < y_high
        wy = tl.load(y_weights + y, mask=in_rows, other=0.0)
        for j in range(0, most_columns, UNROLL):
            for u in tl.static_range(UNROLL):
                x = x_low + j + u
                inside = in_rows & (x < x_high)
                wx = tl.load(x_weights + x, mask=inside, other=0.0)
                pixel = y * width + x
                if WIDE:
                    pixel = pixel.to(tl.int64)
                if CHANNELS_LAST:
                    pixel = pixel * channels
                value = tl.load(
                    pixels + along_rows(pixel, CHANNELS_LAST),
                    mask=along_rows(inside, CHANNELS_LAST) & channel_mask,
                    other=0.0,
                )
                acc += along_rows(wy * wx, CHANNELS_LAST) * value.to(tl.float32)
    mask = along_rows(row_mask, CHANNELS_LAST) & channel_mask
    store_rows(output, acc, row, channel, mask, bins, channels, CHANNELS_LAST, OUT_CHANNELS_LAST)
