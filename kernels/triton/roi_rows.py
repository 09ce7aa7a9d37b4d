"""Tiles of (bins of any boxes) x (channels): what RoI Align and RoI pooling share.

Bins of all boxes are one long list of rows, [box, bin], as the rows of a matrix product. Reading
channels last, lanes lie along channels and a tile is [rows, channels] (ROWS_FIRST); reading NCHW it
is [channels, rows], since the compiler lays lanes along the last dimension where no other is
contiguous.

Not yet run on hardware.
"""

import triton
import triton.language as tl

from cvperf.kernels.triton.roi_sampling import image_of, level_of, of_level


@triton.jit
def along_rows(x, ROWS_FIRST: tl.constexpr):
    """A value of each row as a tile [rows, 1], or [1, rows]."""
    return x[:, None] if ROWS_FIRST else x[None, :]


@triton.jit
def along_channels(x, ROWS_FIRST: tl.constexpr):
    return x[None, :] if ROWS_FIRST else x[:, None]


@triton.jit
def maps_of_rows(
    features, boxes, levels, k, mask, images, heights, widths, channels,
    LEVELS: tl.constexpr, ALIGNMENT: tl.constexpr,
):  # fmt: skip
    """(pointer to the image, its height x width) of each row's box."""
    level = level_of(levels, k, mask, LEVELS)
    image, _ = image_of(boxes, k, mask, images)
    plane = of_level(heights, level, LEVELS) * of_level(widths, level, LEVELS)
    base = features[0] + tl.zeros_like(k)
    for each in tl.static_range(1, LEVELS):
        base = tl.where(level == each, features[each], base)
    if LEVELS > 1:  # the compiler does not see that all of them are aligned
        base = tl.multiple_of(base, ALIGNMENT)
    return base + image.to(tl.int64) * plane * channels, plane


@triton.jit
def rows_and_channels(
    total, channels, BLOCK_ROWS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr
):  # fmt: skip
    """Rows and channels of this program; the channels of one group of rows run side by side."""
    blocks = tl.cdiv(channels, BLOCK_CHANNELS)
    row = tl.program_id(0) // blocks * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    channel = tl.program_id(0) % blocks * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    return row, row < total, channel, channel < channels


@triton.jit
def store_rows(
    output, acc, row, channel, mask, bins, channels,
    ROWS_FIRST: tl.constexpr, OUT_CHANNELS_LAST: tl.constexpr,
):  # fmt: skip
    if OUT_CHANNELS_LAST:
        at_row, pitch = row.to(tl.int64) * channels, 1
    else:
        at_row, pitch = (row // bins).to(tl.int64) * channels * bins + row % bins, bins
    where = along_rows(at_row, ROWS_FIRST) + along_channels(channel, ROWS_FIRST) * pitch
    tl.store(output + where, acc.to(output.dtype.element_ty), mask=mask)
