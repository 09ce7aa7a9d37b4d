"""Which boxes touch which tile of a map: what a backward without atomics needs to know.

Idea: a tile's program scans the extents of all boxes in blocks and compacts the hits by a prefix
sum, in the order of the boxes: so a tile adds them in that order whatever runs when. Its list
begins at a place that follows from counts alone: a box of image n can touch no tile of another
image, so boxes x tiles of an image hold every list, and nothing is sized by the GPU's data.

Cost: tiles x boxes comparisons, 100 instructions of a warp for 32 of them (counted in what
compiles; most are loads, masks and the prefix sum). 1,050 tiles and 1,000 boxes: 3.5 M
instructions, 14 us of an H100 at half of the issue rate and in two waves, once for all channels.

Not yet run on hardware.
"""

import triton
import triton.language as tl


@triton.jit
def find_tile(number, images, heights, widths, LEVELS: tl.constexpr, TILE: tl.constexpr):
    """(level, image, tile row, tile column, height, width) of a tile.

    They are numbered level by level, image by image, row by row.
    """
    level = 0
    first = 0
    height = heights[0]
    width = widths[0]
    tiles = 0
    for each in tl.static_range(LEVELS):
        count = images * (tl.cdiv(heights[each], TILE) * tl.cdiv(widths[each], TILE))
        here = (number >= tiles) & (number < tiles + count)
        level = tl.where(here, each, level)
        first = tl.where(here, tiles, first)
        height = tl.where(here, heights[each], height)
        width = tl.where(here, widths[each], width)
        tiles += count
    columns = tl.cdiv(width, TILE)
    plane = tl.cdiv(height, TILE) * columns
    inner = (number - first) % plane
    return level, (number - first) // plane, inner // columns, inner % columns, height, width


@triton.jit(do_not_specialize=["count", "images", "heights", "widths", "most_tiles"])
def list_boxes(
    places,  # int32 [count]: level * images + image; -1: a box that reads nothing
    extents,  # int32 [4, count]: first row and one past the last, then columns
    lists,  # int32 [count * most_tiles]: boxes of each tile, in ascending order
    begins,  # int64 [tiles]: where a tile's list begins
    lengths,  # int32 [tiles]
    count,
    images,
    heights,
    widths,
    most_tiles,  # of an image of the largest level
    LEVELS: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Program: one tile."""
    number = tl.program_id(0)
    level, image, row, column, _, width = find_tile(number, images, heights, widths, LEVELS, TILE)
    mine = level * images + image
    lane = tl.arange(0, BLOCK)
    before = 0
    here = 0
    for block in range(0, count, BLOCK):
        place = tl.load(places + block + lane, mask=block + lane < count, other=-1)
        before += tl.sum(((place >= 0) & (place < mine)).to(tl.int32))
        here += tl.sum((place == mine).to(tl.int32))
    inner = row * tl.cdiv(width, TILE) + column
    begin = before.to(tl.int64) * most_tiles + inner.to(tl.int64) * here
    found = 0
    for block in range(0, count, BLOCK):
        k = block + lane
        mask = k < count
        hit = tl.load(places + k, mask=mask, other=-1) == mine
        hit &= tl.load(extents + k, mask=mask, other=0) < (row + 1) * TILE
        hit &= tl.load(extents + count + k, mask=mask, other=0) > row * TILE
        hit &= tl.load(extents + 2 * count + k, mask=mask, other=0) < (column + 1) * TILE
        hit &= tl.load(extents + 3 * count + k, mask=mask, other=0) > column * TILE
        ones = hit.to(tl.int32)
        tl.store(lists + begin + found + tl.cumsum(ones, 0) - 1, k, mask=hit)
        found += tl.sum(ones)
    tl.store(begins + number, begin)
    tl.store(lengths + number, found)


@triton.jit
def store_tile(
    outputs, acc, level, image, x, y, channel, height, width, channels,
    LEVELS: tl.constexpr, ALIGNMENT: tl.constexpr, CHANNELS_LAST: tl.constexpr,
):  # fmt: skip
    """Write acc[x, y, channel] to the map of its level."""
    output = outputs[0]
    for each in tl.static_range(1, LEVELS):
        output = tl.where(level == each, outputs[each], output)
    if LEVELS > 1:  # the compiler does not see that all of them are aligned
        output = tl.multiple_of(output, ALIGNMENT)
    output += image.to(tl.int64) * height * width * channels
    pixel = y[None, :, None] * width + x[:, None, None]
    if CHANNELS_LAST:
        where = pixel.to(tl.int64) * channels + channel[None, None, :]
    else:
        where = channel[None, None, :].to(tl.int64) * (height * width) + pixel
    mask = (x < width)[:, None, None] & (y < height)[None, :, None]
    mask = mask & (channel < channels)[None, None, :]
    tl.store(output + where, acc.to(output.dtype.element_ty), mask=mask)
