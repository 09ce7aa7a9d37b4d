"""Depthwise convolution: a product of vectors a pixel, without tensor cores.

Idea: BP pixels x BC channels a program, 16 bytes of channels a thread; a tap is one load of the
image and one of the weight, which lies taps first so that its load is a vector too. Taps overlap in
L1. The input gradient is the same gather with the window turned round; int8 sums integers.

The weight gradient sums over all pixels. A program has one row of taps, all columns of it in
registers (KW x BP x BC / threads), over one part of the pixels; parts are added in their order.

Predicted on H100, batch 32, float16, 96 channels at 112x112 with a residual: memory takes 77 us
(231 MB at 3.0 TB/s), L1 36 for 3x3 (128 bytes a clock and processor). The limit is the issue: 26
instructions for 8 multiply-adds (8 unpack, 10 load), 18 more a tap for the weights of four pixels.
3x3 95 us (81 % of the roofline), 5x5 205 (38 %); float32, which has nothing to unpack, 3x3 160
(96 %). Input gradient 136 us (two divisions a tap), weight gradient 161. Not yet run on hardware.
"""

import triton
import triton.language as tl

from cvperf.kernels.triton.conv2d_epilogue import finish
from cvperf.kernels.triton.conv2d_product import part_of

_VARYING = ["rows", "height", "width", "out_height", "out_width", "channel_units"]
_VARYING += ["stride_h", "stride_w", "padding_h", "padding_w", "dilation_h", "dilation_w"]
_NUMBERS = ["scale_image", "scale_residual", "inverse_scale"]
_NUMBERS += ["zero_image", "zero_residual", "zero_output"]


@triton.jit
def source_of(at, tap, stride, padding, dilation, size, TURNED: tl.constexpr):
    """Where a tap reads, and whether that exists; TURNED: what the tap was written from."""
    if TURNED:
        far = at + padding - tap * dilation
        source = far // stride
        exists = (far >= 0) & (far % stride == 0) & (source < size)
    else:
        source = at * stride - padding + tap * dilation
        exists = (source >= 0) & (source < size)
    return source, exists


@triton.jit(do_not_specialize=_VARYING + _NUMBERS)
def conv2d_depthwise(
    image,  # [N, H, W, C]; with TURNED the gradient [N, OH, OW, C * MULTIPLIER]
    weight,  # [kh, kw, C * MULTIPLIER], taps `weight_pitch` apart
    bias,
    residual,
    output,  # [N, OH, OW, C * MULTIPLIER]; with TURNED [N, H, W, C]
    scale_weight,
    rows,  # pixels of the output
    height,  # of what is read
    width,
    out_height,  # of what is written
    out_width,
    channel_units,  # channels of the output / VECTOR
    weight_pitch,  # from tap to tap
    stride_h,
    stride_w,
    padding_h,
    padding_w,
    dilation_h,
    dilation_w,
    scale_image,
    scale_residual,
    inverse_scale,
    zero_image,
    zero_residual,
    zero_output,
    KH: tl.constexpr,
    KW: tl.constexpr,
    VECTOR: tl.constexpr,
    MULTIPLIER: tl.constexpr,  # filters a channel
    TURNED: tl.constexpr,
    BP: tl.constexpr,
    BC: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SCALAR: tl.constexpr,
    WIDE: tl.constexpr,
    SUMS: tl.constexpr,
):
    """BP pixels of BC channels: convolution, or with TURNED the gradient of its input."""
    channels = channel_units * VECTOR
    m = tl.program_id(0) * BP + tl.arange(0, BP)
    n = tl.program_id(1) * BC + tl.arange(0, BC)
    line = m // out_width
    which = line // out_height
    wide_m = m
    if WIDE:
        which = which.to(tl.int64)
        wide_m = m.to(tl.int64)
    if TURNED:
        pitch = channels * MULTIPLIER
        reads: tl.constexpr = MULTIPLIER
    else:
        pitch = channels // MULTIPLIER
        reads: tl.constexpr = 1
    sums = tl.zeros((BP, BC), SUMS)
    for tap_h in range(KH):
        y, row_exists = source_of(
            line % out_height, tap_h, stride_h, padding_h, dilation_h, height, TURNED
        )
        row_exists = row_exists & (m < rows)
        for tap_w in tl.static_range(KW):
            x, exists = source_of(
                m % out_width, tap_w, stride_w, padding_w, dilation_w, width, TURNED
            )
            inside = (row_exists & exists)[:, None] & (n < channels)[None, :]
            at = (which * height + y) * width + x
            for j in tl.static_range(reads):
                if TURNED:
                    source = n * MULTIPLIER + j
                    column = source
                else:
                    source = n // MULTIPLIER
                    column = n
                values = tl.load(image + ((at * pitch)[:, None] + source[None, :]), inside, 0)
                taps = tl.load(
                    weight + (tap_h * KW + tap_w) * weight_pitch + column, n < channels, 0
                ).to(SUMS)
                if sums.dtype.is_int():
                    values = tl.where(inside, values.to(tl.int32) - zero_image, 0)
                sums += values.to(SUMS) * taps[None, :]
    finish(
        *(sums, wide_m * channels, m < rows, tl.program_id(1) * BC, channels, 0),
        *(output, bias, residual, None, scale_weight),
        (scale_image, scale_residual, inverse_scale),
        (zero_image, zero_residual, zero_output),
        *(ACTIVATION, SCALAR),
    )


@triton.jit(do_not_specialize=_VARYING)
def conv2d_depthwise_weight_grad(
    grad,  # [N, OH, OW, C * MULTIPLIER]
    image,  # [N, H, W, C]
    output,  # float32 [splits, kh, kw, C * MULTIPLIER]
    rows,  # N * OH * OW
    height,
    width,
    out_height,
    out_width,
    channel_units,  # filters / VECTOR
    stride_h,
    stride_w,
    padding_h,
    padding_w,
    dilation_h,
    dilation_w,
    KH: tl.constexpr,
    KW: tl.constexpr,
    KW_BLOCK: tl.constexpr,  # KW up to a power of two
    VECTOR: tl.constexpr,
    MULTIPLIER: tl.constexpr,
    BP: tl.constexpr,
    BC: tl.constexpr,
    WIDE: tl.constexpr,
):
    """One row of taps of BC filters, over one part of the pixels."""
    filters = channel_units * VECTOR
    tap_h = tl.program_id(0) % KH
    n = tl.program_id(0) // KH * BC + tl.arange(0, BC)
    tap_w = tl.arange(0, KW_BLOCK)
    split = tl.program_id(1)
    first, last = part_of(split, tl.num_programs(1), tl.cdiv(rows, BP))
    sums = tl.zeros((KW_BLOCK, BP, BC), tl.float32)
    for block in range(first, last):
        p = block * BP + tl.arange(0, BP)
        line = p // out_width
        which = line // out_height
        wide_p = p
        if WIDE:
            which = which.to(tl.int64)
            wide_p = p.to(tl.int64)
        y = line % out_height * stride_h - padding_h + tap_h * dilation_h
        x = (p % out_width * stride_w - padding_w)[None, :] + (tap_w * dilation_w)[:, None]
        here = ((p < rows) & (y >= 0) & (y < height))[None, :] & (x >= 0) & (x < width)
        here = here & (tap_w < KW)[:, None]
        at = ((which * height + y) * width)[None, :] + x
        values = tl.load(
            image + ((at * (filters // MULTIPLIER))[:, :, None] + (n // MULTIPLIER)[None, None, :]),
            here[:, :, None] & (n < filters)[None, None, :],
            0,
        )
        g = tl.load(
            grad + ((wide_p * filters)[:, None] + n[None, :]),
            (p < rows)[:, None] & (n < filters)[None, :],
            0,
        )
        sums += values.to(tl.float32) * g.to(tl.float32)[None, :, :]
    at = (split * KH + tap_h) * KW + tap_w
    stored = (tap_w < KW)[:, None] & (n < filters)[None, :]
    tl.store(output + (at * filters)[:, None] + n[None, :], tl.sum(sums, 1), mask=stored)
