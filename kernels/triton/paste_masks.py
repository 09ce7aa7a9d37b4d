"""Masks resized into their boxes and pasted into images of zeros, with the threshold in the pass.

Idea: one program writes a tile of one mask's image, once. Most tiles touch no box: they store zeros
and end. The others compute each pixel from the four mask values around it, which lie in L1 (a mask
is 3 KB). What is read is nothing beside what is written, so the limit is the writing of the output,
3.0 TB/s on an H100: 100 masks of 800 x 1333 as bytes, 107 MB, in 36 us; predicted share of the
roofline 0.92 (the launch is the rest), if 55 thousand programs of which most only store start fast
enough, which the model does not know.
A width that is no multiple of 16 is stored in single bytes, which 32 neighbouring threads merge.

The box is cut to whole pixels by torchvision's steps, each rounded by itself: the kernel must be
launched with ``enable_fp_fusion=False``, or a box may end one pixel off. Not yet run on hardware.
"""

import triton
import triton.language as tl


@triton.jit
def span_of(low, high, grow):
    """(first pixel, length) of a box along an axis; length 0 for one that is nowhere."""
    half = (high - low) * 0.5 * grow
    middle = (high + low) * 0.5
    first = middle - half
    last = middle + half
    known = (tl.abs(first) < 1073741824.0) & (tl.abs(last) < 1073741824.0)  # False for NaN
    begin = tl.where(known, first, 0.0).to(tl.int32)
    end = tl.where(known, last, -2.0).to(tl.int32)
    return begin, tl.where(end >= begin, end - begin + 1, 0)


@triton.jit
def taps_of(pixel, size, source):
    """Where pixels of a box lie between two source pixels: (index, weights of it and the next)."""
    at = tl.math.div_rn(source.to(tl.float32), size.to(tl.float32)) * (pixel.to(tl.float32) + 0.5)
    at = tl.where(source == size, pixel.to(tl.float32), tl.maximum(at - 0.5, 0.0))
    index = tl.minimum(at.to(tl.int32), source - 1)
    second = tl.minimum(at - index.to(tl.float32), 1.0)
    return index, 1.0 - second, second


@triton.jit
def source_value(masks, row, column, side, padding, source):
    """The padded mask at rows[:, None] and columns[None, :]; past its end, its end."""
    y = (tl.minimum(row, source - 1) - padding)[:, None]
    x = (tl.minimum(column, source - 1) - padding)[None, :]
    inside = (y >= 0) & (y < side) & (x >= 0) & (x < side)
    return tl.load(masks + y * side + x, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def paste_masks_kernel(
    masks, boxes, out, threshold, grow, side, padding, height, width,
    HARD: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    across = tl.cdiv(width, BW)
    tiles = across * tl.cdiv(height, BH)
    k = (tl.program_id(0) // tiles).to(tl.int64)
    tile = tl.program_id(0) % tiles
    y = tile // across * BH + tl.arange(0, BH)
    x = tile % across * BW + tl.arange(0, BW)
    box = boxes + 4 * k
    ftype = boxes.dtype.element_ty if boxes.dtype.element_ty == tl.float64 else tl.float32
    left, columns = span_of(tl.load(box).to(ftype), tl.load(box + 2).to(ftype), grow)
    top, rows = span_of(tl.load(box + 1).to(ftype), tl.load(box + 3).to(ftype), grow)
    where = out + k * height * width + y.to(tl.int64)[:, None] * width + x[None, :]
    image = (y < height)[:, None] & (x < width)[None, :]
    in_rows = (y >= top) & (y - top < rows)
    in_columns = (x >= left) & (x - left < columns)
    if (tl.max(in_rows.to(tl.int32), 0) != 0) & (tl.max(in_columns.to(tl.int32), 0) != 0):
        source = side + 2 * padding
        mask = masks + k * side * side
        # Pixels outside the box are computed at its edge and not kept.
        row, above, below = taps_of(tl.where(in_rows, y - top, 0), tl.maximum(rows, 1), source)
        column, before, after = taps_of(
            tl.where(in_columns, x - left, 0), tl.maximum(columns, 1), source
        )
        upper = source_value(mask, row, column, side, padding, source) * before[None, :]
        upper += source_value(mask, row, column + 1, side, padding, source) * after[None, :]
        lower = source_value(mask, row + 1, column, side, padding, source) * before[None, :]
        lower += source_value(mask, row + 1, column + 1, side, padding, source) * after[None, :]
        value = upper * above[:, None] + lower * below[:, None]
        inside = in_rows[:, None] & in_columns[None, :]
        if HARD:
            tl.store(where, ((value > threshold) & inside).to(tl.int8), mask=image)
        else:
            tl.store(where, tl.where(inside, value, 0.0).to(out.dtype.element_ty), mask=image)
    else:
        tl.store(where, tl.zeros((BH, BW), out.dtype.element_ty), mask=image)
