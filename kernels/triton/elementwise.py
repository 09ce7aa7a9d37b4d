"""Element-wise passes with parameters by channel: bias and activation, to and from 8 bits.

Idea: a dense tensor is a matrix whose channels are its columns (channels-last), its rows (NCHW
planes), nothing (one parameter for all) or, where few channels would fill no vector, the columns
of one long row taken modulo the channels. One program does a tile of it; each parameter is loaded
once a row or column of the tile.

Limit: the bytes read and written, 3.0 TB/s on an H100, as each is touched once: bias, residual and
ReLU of bfloat16 [8, 256, 56, 56] are 38.5 MB, 12.8 us. Predicted share of the roofline there 0.81
(``model.streamed_share``): the launch, 3 us, is the rest. A change of layout
(``scale_turned_kernel``) reads bytes in one order and writes floats in the other, through shared
memory; in which the model sees no further cost. Not yet run on hardware.
"""

import triton
import triton.language as tl

from cvperf.kernels.triton.activation import activate


@triton.jit
def tile_of(rows, columns, channels, AXIS: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr):
    """(offsets, which of them are there, channel of each) of this program's tile."""
    across = tl.cdiv(columns, BC)
    row = (tl.program_id(0) // across).to(tl.int64) * BR + tl.arange(0, BR)
    column = (tl.program_id(0) % across).to(tl.int64) * BC + tl.arange(0, BC)
    if AXIS == "row":
        channel = (row % channels)[:, None]
    elif AXIS == "column":
        channel = column[None, :]
    elif AXIS == "modulo":
        channel = (column % channels)[None, :]
    else:
        channel = tl.zeros((1, 1), tl.int64)
    there = (row < rows)[:, None] & (column < columns)[None, :]
    return row[:, None] * columns + column[None, :], there, channel


@triton.jit
def bias_activation_kernel(
    x, bias, residual, out, rows, columns, channels,
    ACTIVATION: tl.constexpr, AXIS: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    at, there, channel = tile_of(rows, columns, channels, AXIS, BR, BC)
    value = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
    if bias is not None:
        value += tl.load(bias + channel, mask=channel < channels, other=0.0).to(tl.float32)
    if residual is not None:
        value += tl.load(residual + at, mask=there, other=0.0).to(tl.float32)
    tl.store(out + at, activate(value, ACTIVATION).to(out.dtype.element_ty), mask=there)


@triton.jit
def quantize_kernel(
    x, scale, zero_point, out, rows, columns, channels,
    SCALE_EACH: tl.constexpr, ZERO_EACH: tl.constexpr, LOW: tl.constexpr,
    AXIS: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    at, there, channel = tile_of(rows, columns, channels, AXIS, BR, BC)
    known = channel < channels
    step = tl.load(scale + (channel if SCALE_EACH else 0 * channel), mask=known, other=1.0)
    zero = tl.load(zero_point + (channel if ZERO_EACH else 0 * channel), mask=known, other=0)
    value = tl.load(x + at, mask=there, other=0.0).to(tl.float32) * tl.math.div_rn(1.0, step)
    low = (LOW - zero).to(tl.float32)
    value = tl.where(value > low, value, low)  # NaN becomes the least value
    value = tl.where(value < low + 255.0, value, low + 255.0)
    # 1.5 * 2^23 leaves no room for a fraction: the sum is rounded to a whole number, half to even.
    whole = ((value + 12582912.0) - 12582912.0).to(tl.int32) + zero
    tl.store(out + at, whole.to(out.dtype.element_ty), mask=there)


@triton.jit
def scale_kernel(
    q, offset, factor, out, rows, columns, channels,
    OFFSET_EACH: tl.constexpr, FACTOR_EACH: tl.constexpr,
    AXIS: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    at, there, channel = tile_of(rows, columns, channels, AXIS, BR, BC)
    known = channel < channels
    less = tl.load(offset + (channel if OFFSET_EACH else 0 * channel), mask=known, other=0)
    times = tl.load(factor + (channel if FACTOR_EACH else 0 * channel), mask=known, other=0.0)
    value = tl.load(q + at, mask=there, other=0).to(tl.float32) - less.to(tl.float32)
    tl.store(out + at, (value * times).to(out.dtype.element_ty), mask=there)


@triton.jit
def scale_turned_kernel(
    q, offset, factor, out, pixels, channels,
    TO_PLANES: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(pixels, BP)
    image = (tl.program_id(0) // blocks).to(tl.int64) * pixels * channels
    pixel = (tl.program_id(0) % blocks) * BP + tl.arange(0, BP)
    for first in range(0, channels, BC):
        channel = first + tl.arange(0, BC)
        there = (pixel < pixels)[:, None] & (channel < channels)[None, :]
        by_pixel = image + pixel.to(tl.int64)[:, None] * channels + channel[None, :]
        by_plane = image + channel.to(tl.int64)[None, :] * pixels + pixel[:, None]
        x = tl.load(q + (by_pixel if TO_PLANES else by_plane), mask=there, other=0).to(tl.float32)
        less = tl.load(offset + channel, mask=channel < channels, other=0.0)[None, :]
        times = tl.load(factor + channel, mask=channel < channels, other=0.0)[None, :]
        to = out + (by_plane if TO_PLANES else by_pixel)
        tl.store(to, ((x - less) * times).to(out.dtype.element_ty), mask=there)
