"""RoI max pooling, forward and gradient of the map.

Idea, forward: tiles of bins x channels as for RoI Align (roi_rows.py); each value walks its bin in
row-major order and keeps the first of its largest pixels, in registers. Bins are made once a box,
in float32 as torchvision makes them: products and quotients are rounded from float64, so that no
compiler fuses or approximates them.
Backward: a tile of pixels gathers from the boxes that touch it, in order (roi_tiles.py): no
atomics. A pixel takes a bin's gradient where it is the bin's largest, so each bin that touches the
tile costs a comparison and an addition a pixel; tiles are small (4 x 4), since a bin's work is the
tile's size.

Predicted, H100, 1,000 boxes of 28 x 28 pixels, 256 channels, 7 x 7 bins, float16: forward 25 pixels
a bin x 49 instructions a vector of 8 channels (counted in what compiles): 60 M warp instructions,
90 us. Backward: 64 tiles a box, 8 blocks of channels, 3 bins of 70 instructions in each and 80 for
the box: 150 M, 220 us, and 36 us for the lists; torchvision's 12.5 M atomic additions take about 50
us but in any order.
Source: Girshick, "Fast R-CNN", ICCV 2015.

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
from cvperf.kernels.triton.roi_sampling import image_of, rounded_product, scale_of
from cvperf.kernels.triton.roi_tiles import find_tile, store_tile

LOWEST = tl.constexpr(-3.4028234663852886e38)  # where torchvision starts, whatever the dtype


@triton.jit
def _whole(x):
    """The nearest whole number, halves away from zero, within int32; as int64."""
    x = x.to(tl.float64)
    x = tl.where(x > 2147483647.0, 2147483647.0, tl.where(x < -2147483647.0, -2147483647.0, x))
    rounded = tl.floor(tl.where(x < 0.0, -x, x) + 0.5)
    return tl.where(x < 0.0, -rounded, rounded).to(tl.int64)


@triton.jit(do_not_specialize=["count", "images", "scale_bits", "height", "width"])
def roi_pool_bins(
    boxes,  # float32 [count, 5]
    edges,  # int32 [count, PH + PW, 2]: first pixel of a bin and one past its last
    touching,  # int32 [count, rows + columns of tiles, 2]: bins that reach a tile; if BY_PIXEL
    extents,  # int32 [4, count]: first row and one past the last of each box, then columns
    places,  # int32 [count]: image of each box; -1: it reads nothing
    count,
    images,
    scale_bits,
    height,
    width,
    PH: tl.constexpr,
    PW: tl.constexpr,
    BY_PIXEL: tl.constexpr,
    BINS: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One axis of one box: program (box, 0) its rows, program (box, 1) its columns."""
    k = tl.program_id(0)
    axis = tl.program_id(1)
    p = tl.arange(0, BINS)
    box = tl.zeros_like(p) + k
    image, valid = image_of(boxes, box, p >= 0, images)
    pooled = tl.where(axis == 0, PH, PW)
    size = tl.where(axis == 0, height, width)
    scale = scale_of(scale_bits, tl.zeros_like(p), 1)
    first = rounded_product(tl.load(boxes + box * 5 + (2 - axis)), scale)
    last = rounded_product(tl.load(boxes + box * 5 + (4 - axis)), scale)
    valid = valid & (first == first) & (last == last)
    start = _whole(tl.where(valid, first, 0.0))
    end = _whole(tl.where(valid, last, 0.0))
    extent = tl.maximum(end - start + 1, 1).to(tl.float32).to(tl.float64)
    bin_size = (extent / pooled).to(tl.float32).to(tl.float64)
    # The rounding of float32 products; they are below 2^33 and fit an int64.
    low = tl.floor((p.to(tl.float64) * bin_size).to(tl.float32)).to(tl.int64) + start
    high = tl.ceil(((p + 1).to(tl.float64) * bin_size).to(tl.float32)).to(tl.int64) + start
    low = tl.minimum(tl.maximum(low, 0), size).to(tl.int32)
    high = tl.minimum(tl.maximum(high, 0), size).to(tl.int32)
    low = tl.where(valid, low, 0)
    high = tl.where(valid, high, 0)
    mask = p < pooled
    edge = (k * (PH + PW) + axis * PH + p) * 2
    tl.store(edges + edge, low, mask=mask)
    tl.store(edges + edge + 1, high, mask=mask)
    if BY_PIXEL:
        begin = tl.min(tl.where(mask, low, 2147483647))
        stop = tl.max(tl.where(mask, high, 0))
        tl.store(extents + 2 * axis * count + k, begin)
        tl.store(extents + (2 * axis + 1) * count + k, stop)
        if axis == 0:
            tl.store(places + k, tl.max(tl.where(valid, image, -1)))
        rows = tl.cdiv(height, TILE)
        tiles = tl.where(axis == 0, rows, tl.cdiv(width, TILE))
        base = k * (rows + tl.cdiv(width, TILE)) + tl.where(axis == 0, 0, rows)
        for block in range(begin // TILE, tl.cdiv(stop, TILE), BLOCK):
            tile = block + tl.arange(0, BLOCK)
            before = (high[:, None] <= tile[None, :] * TILE) & mask[:, None]
            until = (low[:, None] < (tile[None, :] + 1) * TILE) & mask[:, None]
            inside = tile < tiles
            at = touching + (base + tile) * 2
            tl.store(at, tl.sum(before.to(tl.int32), axis=0), mask=inside)
            tl.store(at + 1, tl.sum(until.to(tl.int32), axis=0), mask=inside)


@triton.jit(do_not_specialize=["count", "images", "height", "width"])
def roi_pool(
    feature,  # [images, height, width, channels] if CHANNELS_LAST, else NCHW
    boxes,  # float32 [count, 5]
    edges,  # int32 [count, PH + PW, 2]: of roi_pool_bins
    output,  # [count, PH * PW, channels] if OUT_CHANNELS_LAST, else [count, channels, PH * PW]
    argmax,  # int32, as output: the pixel's place in its plane; -1 if there is none
    count,
    images,
    channels,
    height,
    width,
    PH: tl.constexpr,
    PW: tl.constexpr,
    WIDE: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    OUT_CHANNELS_LAST: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    bins: tl.constexpr = PH * PW
    row, row_mask, channel, channel_mask = rows_and_channels(
        count * bins, channels, BLOCK_ROWS, BLOCK_CHANNELS
    )
    k = row // bins
    base, plane = maps_of_rows(
        (feature,), boxes, boxes, k, row_mask, images, (height,), (width,), channels, 1, 1
    )
    y_edge = edges + (k * (PH + PW) + row % bins // PW) * 2
    x_edge = edges + (k * (PH + PW) + PH + row % PW) * 2
    y_low = tl.load(y_edge, mask=row_mask, other=0)
    y_high = tl.load(y_edge + 1, mask=row_mask, other=0)
    x_low = tl.load(x_edge, mask=row_mask, other=0)
    x_high = tl.load(x_edge + 1, mask=row_mask, other=0)
    at_channel = along_channels(channel, CHANNELS_LAST)
    if not CHANNELS_LAST:
        at_channel = at_channel.to(tl.int64) * along_rows(plane, False)
    pixels = along_rows(base, CHANNELS_LAST) + at_channel
    mask = along_rows(row_mask, CHANNELS_LAST) & along_channels(channel_mask, CHANNELS_LAST)
    lowest = tl.where((y_high > y_low) & (x_high > x_low), LOWEST, 0.0)
    best = tl.where(mask, along_rows(lowest, CHANNELS_LAST), 0.0)
    where = tl.where(mask, -1, -1)
    most_columns = tl.max(x_high - x_low)
    for i in range(0, tl.max(y_high - y_low)):
        y = y_low + i
        for j in range(0, most_columns):
            x = x_low + j
            inside = along_rows((y < y_high) & (x < x_high), CHANNELS_LAST)
            place = y * width + x
            pixel = place.to(tl.int64) if WIDE else place
            if CHANNELS_LAST:
                pixel = pixel * channels
            value = tl.load(
                pixels + along_rows(pixel, CHANNELS_LAST), mask=inside & mask, other=LOWEST
            ).to(tl.float32)
            larger = value > best
            best = tl.where(larger, value, best)
            where = tl.where(larger, along_rows(place, CHANNELS_LAST), where)
    store_rows(output, best, row, channel, mask, bins, channels, CHANNELS_LAST, OUT_CHANNELS_LAST)
    store_rows(argmax, where, row, channel, mask, bins, channels, CHANNELS_LAST, OUT_CHANNELS_LAST)


@triton.jit(do_not_specialize=["images", "height", "width"])
def roi_pool_backward(
    grad,  # [count, PH, PW, channels]
    argmax,  # int32 [count, PH, PW, channels]
    touching,  # int32 [count, rows + columns of tiles, 2]
    lists,
    begins,
    lengths,
    output,  # [images, height, width, channels] if CHANNELS_LAST, else NCHW
    images,
    channels,
    height,
    width,
    PH: tl.constexpr,
    PW: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """Program: one tile, one block of channels; the blocks of a tile run side by side."""
    blocks = tl.cdiv(channels, BLOCK_CHANNELS)
    number = tl.program_id(0) // blocks
    level, image, row, column, _, _ = find_tile(number, images, (height,), (width,), 1, TILE)
    channel = tl.program_id(0) % blocks * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    channel_mask = (channel < channels)[None, None, :]
    y = row * TILE + tl.arange(0, TILE)
    x = column * TILE + tl.arange(0, TILE)
    place = y[None, :, None] * width + x[:, None, None]
    place = tl.where((y < height)[None, :, None] & (x < width)[:, None, None], place, -1)
    # In three dimensions from the start: so the compiler gives loads, sums and stores one layout.
    each_row = tl.zeros((1, TILE, 1), tl.int32) + channel[None, None, :]
    acc = tl.zeros((TILE, TILE, BLOCK_CHANNELS), tl.float32)
    rows = tl.cdiv(height, TILE)
    tiles = rows + tl.cdiv(width, TILE)
    begin = tl.load(begins + number)
    for n in range(0, tl.load(lengths + number)):
        k = tl.load(lists + begin + n).to(tl.int64)
        bins = touching + k * tiles * 2
        first_i = tl.load(bins + row * 2)
        last_i = tl.load(bins + row * 2 + 1)
        first_j = tl.load(bins + (rows + column) * 2)
        last_j = tl.load(bins + (rows + column) * 2 + 1)
        for i in range(first_i, last_i):
            for j in range(first_j, last_j):
                at = ((k * PH + i) * PW + j) * channels
                where = tl.load(argmax + at + each_row, mask=channel_mask, other=-2)
                value = tl.load(grad + at + each_row, mask=channel_mask, other=0.0)
                acc += tl.where(where == place, value.to(tl.float32), 0.0)
    store_tile(
        *((output,), acc, level, image, x, y, channel, height, width, channels), 1, 1, CHANNELS_LAST
    )
