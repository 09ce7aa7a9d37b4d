"""What every convolution by tensor cores shares: the order of tiles, and the product.

Idea: an implicit matrix product. A row is a pixel of the result, a column a filter, and the sum
runs over taps and channels; the unfolded image is never written. Channels come last, so that a
block of BK channels of one pixel is one run of memory: addresses and the test for the padding are
made once a pixel and tap, about 8 integer operations for each 16 bytes read, and a pixel outside is
a copy of zeros (cp.async's own), not a branch.

Order of the sum: blocks of channels outside, taps inside, so that the nine reads of a 3x3 kernel
follow each other and all but the first come from L2. (Not from L1: Triton copies 16 bytes at a time
with cp.async.cg, which goes past it, whatever the load's cache modifier says.)

Source: Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014 (implicit product);
the order of tiles is that of Triton's tutorial on matrix products.
"""

import triton
import triton.language as tl


@triton.jit
def tile_of(program, tiles_m, tiles_n, GROUP: tl.constexpr):
    """Tile (m, n) of a program: GROUP rows of tiles at a time, whose reads then stay in L2."""
    width = GROUP * tiles_n
    first = program // width * GROUP
    rows = min(tiles_m - first, GROUP)
    within = program % width
    return first + within % rows, within // rows


@triton.jit
def part_of(split, splits, blocks):
    """The blocks [first, last) of the sum that one of `splits` programs adds up."""
    each = tl.cdiv(blocks, splits)
    return split * each, min(split * each + each, blocks)


@triton.jit
def load_image(pointers, mask, fill, FILL: tl.constexpr, UNSIGNED: tl.constexpr):
    """Values of the image; `fill` (or 0) outside of it. uint8 becomes int8, counted from 128."""
    values = tl.load(pointers, mask=mask, other=0)
    if FILL:
        values = tl.where(mask, values, fill.to(values.dtype))
    if UNSIGNED:
        values = (values ^ 0x80).to(tl.int8, bitcast=True)
    return values


@triton.jit
def product(
    image,
    weight,
    pixels,  # [BM] each: where the row's image begins, its window's top and left, if it is one
    size,  # of the image: height, width, numbers from pixel to pixel
    columns,  # [BN] each: where the column's weights begin, whether it is a column
    strides,  # in the weight, from channel to channel and from tap to tap each way
    taps,  # of the window, each way
    steps,  # from tap to tap in the image, each way
    channels,
    fill,
    part,  # the blocks of the sum, from and to
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    POINTWISE: tl.constexpr,  # a row's pixel is where its image begins
    EVEN: tl.constexpr,  # BK divides the channels
    FILL: tl.constexpr,
    UNSIGNED: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDE: tl.constexpr,  # offsets need 64 bits
    SUMS: tl.constexpr,
):
    """Sums [BM, BN] over blocks of BK channels of a tap."""
    image_at, top, left, inside = pixels
    height, width, pitch = size
    weight_at, is_column = columns
    channel_stride, tap_h_stride, tap_w_stride = strides
    taps_h, taps_w = taps
    step_h, step_w = steps
    first, last = part
    k = tl.arange(0, BK)
    channel = first // (taps_h * taps_w) * BK
    tap_h = first % (taps_h * taps_w) // taps_w
    tap_w = first % taps_w
    sums = tl.zeros((BM, BN), SUMS)
    for _ in range(first, last):
        c = channel + k
        at = image_at
        here = inside
        if not POINTWISE:
            y = top + tap_h * step_h
            x = left + tap_w * step_w
            here = here & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            pixel = y * width + x
            if WIDE:
                pixel = pixel.to(tl.int64)
            at += pixel * pitch
        a_mask = here[:, None]
        b_mask = is_column[None, :]
        if not EVEN:
            a_mask = a_mask & (c < channels)[None, :]
            b_mask = b_mask & (c < channels)[:, None]
        a = load_image(image + (at[:, None] + c[None, :]), a_mask, fill, FILL, UNSIGNED)
        tap_at = weight_at + (tap_h * tap_h_stride + tap_w * tap_w_stride)
        b = tl.load(weight + (tap_at[None, :] + (c * channel_stride)[:, None]), b_mask, 0)
        sums = tl.dot(a, b, sums, input_precision=PRECISION, out_dtype=SUMS)
        tap_w += 1
        tap_h += (tap_w == taps_w).to(tl.int32)
        tap_w = tl.where(tap_w == taps_w, 0, tap_w)
        channel += tl.where(tap_h == taps_h, BK, 0)
        tap_h = tl.where(tap_h == taps_h, 0, tap_h)
    return sums


@triton.jit
def flat_product(
    image,
    weight,
    pixels,
    size,
    columns,
    steps,
    fill,
    part,
    KH: tl.constexpr,
    KW: tl.constexpr,
    CHANNELS: tl.constexpr,  # of the image, all in one group
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    FILL: tl.constexpr,
    UNSIGNED: tl.constexpr,
    PRECISION: tl.constexpr,
    SUMS: tl.constexpr,
):
    """The same for few channels: a block is BK numbers of the flattened (tap, channel).

    A 7x7 kernel on 3 channels is a sum of 147 in 5 blocks of 32, where a block a tap would be 49.
    The image is gathered number by number; it is small beside the output.
    """
    image_at, top, left, inside = pixels
    height, width, _ = size
    weight_at, is_column = columns
    first, last = part
    sums = tl.zeros((BM, BN), SUMS)
    for block in range(first, last):
        term = block * BK + tl.arange(0, BK)
        tap = term // CHANNELS
        y = top[:, None] + (tap // KW * steps[0])[None, :]
        x = left[:, None] + (tap % KW * steps[1])[None, :]
        is_term = term < KH * KW * CHANNELS
        here = inside[:, None] & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        at = image_at[:, None] + ((y * width + x) * CHANNELS + (term % CHANNELS)[None, :])
        a = load_image(image + at, here & is_term[None, :], fill, FILL, UNSIGNED)
        b_mask = is_column[None, :] & is_term[:, None]
        b = tl.load(weight + (weight_at[None, :] + term[:, None]), b_mask, 0)
        sums = tl.dot(a, b, sums, input_precision=PRECISION, out_dtype=SUMS)
    return sums
