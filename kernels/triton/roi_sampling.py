"""Where RoI Align samples, made once a box; the kernels that move pixels only read these tables.

Idea: sampling is separable and the same for all channels, so positions are worked out here, one
axis of one box at a time, in float64. Float32 would not do: at position 300 it is 3e-5 of a pixel
off, more than the 1e-5 that answers are held to, and a sample may fall on the other side of the
map's edge. Here float64 is cheap even where a GPU has next to none: 1,000 boxes of 7 x 7 bins are
28,000 positions, under 3 microseconds on a consumer card and one on an H100. The number of adaptive
samples is counted in float32 as torchvision does; its products are rounded from float64, so that no
compiler fuses them. Launch these kernels with ``enable_fp_fusion=False``: the positions then have
the bits of the CPU kernel's.

Two forms. ``roi_samples``: the two pixels and weights of every sample, for a few samples a bin.
``roi_weights``: how much of every pixel is in every bin, [box, bin, pixel of the axis], for any
number of samples and for the backward, which asks by pixel. It is written only where the box is.

Not yet run on hardware.
"""

import triton
import triton.language as tl


@triton.jit
def of_level(values, level, LEVELS: tl.constexpr):
    """``values[level]`` for a tensor of levels; a level of -1 takes the first."""
    chosen = tl.zeros_like(level) + values[0]
    for each in tl.static_range(1, LEVELS):
        chosen = tl.where(level == each, values[each], chosen)
    return chosen


@triton.jit
def scale_of(bits, level, LEVELS: tl.constexpr):
    """Scale of each level, float64: ``bits`` are the first's, and it halves from one to the next.

    They come as an integer since Triton makes float arguments float32.
    """
    first = bits.to(tl.int64).to(tl.float64, bitcast=True)
    scale = tl.zeros_like(level).to(tl.float64) + first
    for each in tl.static_range(1, LEVELS):
        scale = tl.where(level == each, first * (0.5**each), scale)
    return scale


@triton.jit
def level_of(levels, k, mask, LEVELS: tl.constexpr):
    """Level of each box; all are on the only one if there is but one."""
    return tl.zeros_like(k) if LEVELS == 1 else tl.load(levels + k, mask=mask, other=-1)


@triton.jit
def image_of(boxes, k, mask, images):
    """(image index, whether it is a whole number in [0, images)) of each box; 0 if it is not."""
    index = tl.load(boxes + k * 5, mask=mask, other=-1.0)
    valid = (index >= 0.0) & (index < images) & (tl.floor(index) == index)
    return tl.where(valid, index, 0.0).to(tl.int32), valid


@triton.jit
def rounded_product(x, scale):
    return (x.to(tl.float64) * scale.to(tl.float32).to(tl.float64)).to(tl.float32)


@triton.jit
def axis_geometry(first, last, scale, pooled, ratio, ALIGNED: tl.constexpr, ADAPTIVE: tl.constexpr):
    """(start, bin size, samples a bin) along one axis, in float64; no samples: the box is empty."""
    offset: tl.constexpr = 0.5 if ALIGNED else 0.0
    start = first.to(tl.float64) * scale - offset
    size = last.to(tl.float64) * scale - offset - start
    if not ALIGNED:
        size = tl.where(size < 1.0, 1.0, size)  # a NaN stays one
    if ADAPTIVE:
        extent = (rounded_product(last, scale) - offset) - (rounded_product(first, scale) - offset)
        if not ALIGNED:
            extent = tl.where(extent < 1.0, 1.0, extent)
        count = tl.ceil((extent.to(tl.float64) / pooled).to(tl.float32)).to(tl.float64)
        grid = tl.where(count >= 1.0, tl.where(count < 2147483647.0, count, 2147483647.0), 0.0)
    else:
        grid = tl.zeros_like(size) + ratio
    return start, size / pooled, grid


@triton.jit
def tap(position, size):
    """(inside the map, lower pixel, share of the next pixel) of a sample."""
    inside = (position >= -1.0) & (position <= size.to(tl.float64)) & (size > 0)
    position = tl.where(inside & (position > 0.0), position, 0.0)
    low = tl.minimum(position.to(tl.int32), size - 1)
    fraction = tl.where(low >= size - 1, 0.0, position - low)
    return inside, low, fraction


@triton.jit(do_not_specialize=["count", "images", "scale_bits", "heights", "widths"])
def roi_samples(
    boxes,  # float32 [count, 5]
    levels,  # int32 [count] if LEVELS > 1
    offsets,  # int32 [2, samples]: pixels of the lower and the upper tap; -1 outside the map
    weights,  # float32 [2, samples]
    count,
    images,
    scale_bits,  # of the first level: see scale_of
    heights,
    widths,
    PH: tl.constexpr,
    PW: tl.constexpr,
    RATIO: tl.constexpr,
    ALIGNED: tl.constexpr,
    LEVELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Samples of rows [count, PH, RATIO], then of columns [count, PW, RATIO], BLOCK a program."""
    sample = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    rows = count * (PH * RATIO)
    total = rows + count * (PW * RATIO)
    mask = sample < total
    is_row = sample < rows
    place = tl.where(is_row, sample, sample - rows)
    each = tl.where(is_row, PH * RATIO, PW * RATIO)
    k = place // each
    column = tl.where(is_row, 2, 1)
    first = tl.load(boxes + k * 5 + column, mask=mask, other=0.0)
    last = tl.load(boxes + k * 5 + column + 2, mask=mask, other=0.0)
    level = level_of(levels, k, mask, LEVELS)
    _, valid = image_of(boxes, k, mask, images)
    width = of_level(widths, level, LEVELS)
    size = tl.where(is_row, of_level(heights, level, LEVELS), width)
    scale = scale_of(scale_bits, level, LEVELS)
    pooled = tl.where(is_row, PH, PW)
    start, bin_size, grid = axis_geometry(first, last, scale, pooled, RATIO, ALIGNED, False)
    which = place % each
    origin = start + (which // RATIO).to(tl.float64) * bin_size
    position = origin + ((which % RATIO).to(tl.float64) + 0.5) * bin_size / grid
    inside, low, fraction = tap(position, size)
    inside = inside & valid & (level >= 0)
    pitch = tl.where(is_row, width, 1)
    lower = low * pitch
    upper = lower + tl.where(low < size - 1, pitch, 0)
    tl.store(offsets + sample, tl.where(inside, lower, -1), mask=mask)
    tl.store(offsets + total + sample, tl.where(inside, upper, -1), mask=mask)
    tl.store(weights + sample, ((1.0 - fraction) / RATIO).to(tl.float32), mask=mask)
    tl.store(weights + total + sample, (fraction / RATIO).to(tl.float32), mask=mask)


@triton.jit
def _candidates(origin, bin_size, grid, low, high):
    """[first, last) of the samples of each bin that can lie in [low, high], in float64.

    One more on each side covers rounding.
    """
    step = bin_size / tl.maximum(grid, 1.0)
    finite = (origin - origin == 0.0) & (step - step == 0.0)
    origin = tl.where(finite, origin, 0.0)
    moves = finite & (step != 0.0)
    step = tl.where(moves, step, 1.0)
    a = (low - origin) / step - 0.5
    b = (high - origin) / step - 0.5
    first = tl.maximum(tl.floor(tl.minimum(a, b)) - 1.0, 0.0)
    last = tl.ceil(tl.maximum(a, b)) + 2.0
    stays = finite & (origin >= low) & (origin <= high)  # all samples at one position
    first = tl.minimum(tl.where(moves, first, 0.0), grid)
    last = tl.where(moves, tl.maximum(last, 0.0), tl.where(stays, grid, 0.0))
    return first, tl.minimum(last, grid)


@triton.jit(
    do_not_specialize=[
        *("count", "images", "scale_bits", "ratio"),
        *("heights", "widths", "pitch_y", "pitch_x"),
    ]
)
def roi_weights(
    boxes,  # float32 [count, 5]
    levels,  # int32 [count] if LEVELS > 1
    weights,  # float32 [count, PH, pitch_y], then [count, PW, pitch_x]: share of a pixel in a bin
    edges,  # int32 [count, PH + PW, 2]: first and one past the last pixel that a bin reads
    touching,  # int32 [count, (pitch_y + pitch_x) / TILE, 2]: bins that read a tile; if BY_PIXEL
    extents,  # int32 [4, count]: first row and one past the last of each box, then columns
    places,  # int32 [count]: level * images + image of each box; -1: it reads nothing
    count,
    images,
    scale_bits,  # of the first level: see scale_of
    ratio,
    heights,
    widths,
    pitch_y,  # at least the highest map; a multiple of BLOCK
    pitch_x,
    PH: tl.constexpr,
    PW: tl.constexpr,
    ALIGNED: tl.constexpr,
    ADAPTIVE: tl.constexpr,
    LEVELS: tl.constexpr,
    BY_PIXEL: tl.constexpr,
    BINS: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
):
    """One axis of one box: program (box, 0) its rows, program (box, 1) its columns."""
    k = tl.program_id(0)
    axis = tl.program_id(1)
    p = tl.arange(0, BINS)
    box = tl.zeros_like(p) + k  # all of it as vectors: every bin has its own samples
    everywhere = p >= 0
    level = level_of(levels, box, everywhere, LEVELS)
    image, valid = image_of(boxes, box, everywhere, images)
    valid = valid & (level >= 0)
    first = tl.load(boxes + box * 5 + (2 - axis))
    last = tl.load(boxes + box * 5 + (4 - axis))
    pooled = tl.where(axis == 0, PH, PW)
    size = tl.where(axis == 0, of_level(heights, level, LEVELS), of_level(widths, level, LEVELS))
    scale = scale_of(scale_bits, level, LEVELS)
    start, bin_size, grid = axis_geometry(first, last, scale, pooled, ratio, ALIGNED, ADAPTIVE)
    grid = tl.where(valid & (p < pooled), grid, 0.0)
    origin = start + p.to(tl.float64) * bin_size

    # A box's pixels and one more: no sample lies outside the box.
    end = start + bin_size * pooled
    most = (size - 1).to(tl.float64)
    near = tl.floor(tl.minimum(start, end))
    far = tl.floor(tl.maximum(start, end)) + 2.0
    begin = tl.max(tl.where(near > 0.0, tl.minimum(near, most), 0.0).to(tl.int32))
    stop = tl.max(tl.where(far > 0.0, tl.minimum(far, most + 1.0), 0.0).to(tl.int32))
    stop = tl.where((near <= size) & (grid > 0.0), stop, 0)
    stop = tl.max(stop)

    pitch = tl.where(axis == 0, pitch_y, pitch_x)
    table = weights + axis * (count.to(tl.int64) * PH * pitch_y)
    table += k.to(tl.int64) * pooled * pitch
    divisor = tl.maximum(grid, 1.0)  # grid is no NaN
    low_edge = tl.zeros_like(p) + 2147483647
    high_edge = tl.zeros_like(p)
    for block in range(begin // BLOCK, tl.cdiv(stop, BLOCK)):
        pixel = block * BLOCK + tl.arange(0, BLOCK)
        a, b = _candidates(origin, bin_size, grid, block * BLOCK - 1, block * BLOCK + BLOCK)
        share = tl.zeros((BINS, BLOCK), tl.float32)
        for n in range(0, tl.max(b - a).to(tl.int32)):
            i = a + n
            inside, low, fraction = tap(origin + (i + 0.5) * bin_size / divisor, size)
            inside = inside & (i < b)
            low_edge = tl.minimum(low_edge, tl.where(inside, low, 2147483647))
            high_edge = tl.maximum(high_edge, tl.where(inside, tl.minimum(low + 2, size), 0))
            lower = tl.where(inside, 1.0 - fraction, 0.0).to(tl.float32)
            upper = tl.where(inside, fraction, 0.0).to(tl.float32)
            distance = pixel[None, :] - low[:, None]
            share += tl.where(distance == 0, lower[:, None], 0.0)
            share += tl.where(distance == 1, upper[:, None], 0.0)
        share = share / divisor.to(tl.float32)[:, None]
        bin_mask = p < pooled
        where = p[:, None].to(tl.int64) * pitch + pixel[None, :]
        tl.store(table + where, share, mask=bin_mask[:, None])
        if BY_PIXEL:
            parts: tl.constexpr = BLOCK // TILE
            touches = tl.max(tl.reshape(share, (BINS, parts, TILE)), axis=2) > 0.0
            first_bin = tl.min(tl.where(touches, p[:, None], BINS), axis=0)
            last_bin = tl.max(tl.where(touches, p[:, None] + 1, 0), axis=0)
            tile = k * ((pitch_y + pitch_x) // TILE) + tl.where(axis == 0, 0, pitch_y // TILE)
            tile += block * parts + tl.arange(0, parts)
            tl.store(touching + tile * 2, first_bin)
            tl.store(touching + tile * 2 + 1, last_bin)
    edge = (k * (PH + PW) + axis * PH + p) * 2
    tl.store(edges + edge, tl.minimum(low_edge, high_edge), mask=p < pooled)
    tl.store(edges + edge + 1, high_edge, mask=p < pooled)
    if BY_PIXEL:
        high = tl.max(high_edge)
        tl.store(extents + 2 * axis * count + k, tl.minimum(tl.min(low_edge), high))
        tl.store(extents + (2 * axis + 1) * count + k, high)
        if axis == 0:
            tl.store(places + k, tl.max(tl.where(valid, level * images + image, -1)))
