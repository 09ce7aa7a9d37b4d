"""The gradients of a convolution: two more implicit matrix products, without atomics.

Input gradient: a gather. Each pixel of the image sums over the taps that reached it, so that it is
the forward product over the gradient with the window turned round. With a stride, pixels whose
coordinates share a remainder share their taps: each such class is a dense product of its own
(a 3x3 kernel at stride 2 has classes of 1, 2, 2 and 4 taps, 9 in all), none of it multiplies zeros.

Weight gradient: rows are filters, columns channels of a tap, and the sum runs over all pixels:
100,000 of them against a result of 64 x 64. It is cut into parts that store float32 sums, which
conv2d_reduce adds in their order: deterministic. Tiles of one part run side by side, so that the
pixels they share come from L2.

Predicted on H100, batch 32, float16, 3x3 256-256 14x14 (7.4 GFLOP, 9 us at the peak): input
gradient 26 us as the forward pass; weight gradient 30 us in 6 parts with their sum. What limits
them: L2, and in the weight gradient the two divisions a pixel that find it in the image.
Source: Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014; the classes are the
sub-kernels of Dumoulin and Visin, "A guide to convolution arithmetic", 2016. Not yet run on
hardware.
"""

import triton
import triton.language as tl

from cvperf.kernels.triton.conv2d_product import part_of, product, tile_of

_VARYING = ["height", "width", "out_height", "out_width", "channel_units", "filter_units"]
_VARYING += ["groups", "stride_h", "stride_w", "padding_h", "padding_w", "dilation_h", "dilation_w"]


@triton.jit
def taps_of(remainder, K: tl.constexpr, stride, padding, dilation, tap_step):
    """First tap, number of taps and the first tap's pixel, for coordinates of this remainder."""
    first = tl.full((), K, tl.int32)
    for back in tl.static_range(1, K + 1):
        reaches = (remainder + padding - (K - back) * dilation) % stride == 0
        first = tl.where(reaches, K - back, first)
    return first, tl.cdiv(K - first, tap_step), (remainder + padding - first * dilation) // stride


@triton.jit(do_not_specialize=[*_VARYING, "images", "tap_step_h", "tap_step_w"])
def conv2d_input_grad(
    grad,  # [N, OH, OW, O]
    weight,  # [O, kh, kw, C / groups]; with K_MAJOR [C, kh, kw, O / groups]
    output,  # [N, H, W, C]; with PARTIAL float32 [splits, N, H, W, C]
    images,
    height,
    width,
    out_height,
    out_width,
    channel_units,
    filter_units,
    groups,
    stride_h,
    stride_w,
    padding_h,
    padding_w,
    dilation_h,
    dilation_w,
    tap_step_h,  # from a tap to the next one of its class: stride / gcd(stride, dilation)
    tap_step_w,
    KH: tl.constexpr,
    KW: tl.constexpr,
    VECTOR: tl.constexpr,
    OUT_VECTOR: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    GROUP: tl.constexpr,
    POINTWISE: tl.constexpr,
    EVEN: tl.constexpr,
    K_MAJOR: tl.constexpr,
    PRECISION: tl.constexpr,
    PARTIAL: tl.constexpr,
    WIDE: tl.constexpr,
):
    """One tile of one group's gradient in one class, or of one part of its sum."""
    channels = channel_units * VECTOR
    filters = filter_units * OUT_VECTOR
    split = tl.program_id(1)
    kind = tl.program_id(2) // groups
    group = tl.program_id(2) % groups
    lines = tl.cdiv(height, stride_h)  # of a class
    line_width = tl.cdiv(width, stride_w)
    rows = images * lines * line_width
    tile_m, tile_n = tile_of(tl.program_id(0), tl.cdiv(rows, BM), tl.cdiv(channels, BN), GROUP)
    m = tile_m * BM + tl.arange(0, BM)
    n = tile_n * BN + tl.arange(0, BN)
    line = m // line_width
    y = kind // stride_w + line % lines * stride_h
    x = kind % stride_w + m % line_width * stride_w
    inside = (m < rows) & (y < height) & (x < width)
    which = line // lines
    if WIDE:
        which = which.to(tl.int64)
    tap_h, taps_h, top = taps_of(kind // stride_w, KH, stride_h, padding_h, dilation_h, tap_step_h)
    tap_w, taps_w, left = taps_of(kind % stride_w, KW, stride_w, padding_w, dilation_w, tap_step_w)
    if POINTWISE:
        wide_m = m
        if WIDE:
            wide_m = m.to(tl.int64)
        pixels = (wide_m * (filters * groups), m, m, inside)
    else:
        grad_at = which * (out_height * out_width * filters * groups)
        pixels = (grad_at, top + line % lines, left + m % line_width, inside)
    if K_MAJOR:
        columns = ((group * channels + n) * (KH * KW * filters), n < channels)
        per_tap = filters
        strides = (1, tap_step_h * KW * filters, tap_step_w * filters)
    else:
        columns = (group * filters * (KH * KW * channels) + n, n < channels)
        per_tap = channels
        strides = (KH * KW * channels, tap_step_h * KW * channels, tap_step_w * channels)
    steps = (-tap_step_h * dilation_h // stride_h, -tap_step_w * dilation_w // stride_w)
    sums = product(
        *(grad + group * filters, weight + (tap_h * KW + tap_w) * per_tap, pixels),
        *((out_height, out_width, filters * groups), columns, strides),
        *((max(taps_h, 1), max(taps_w, 1)), steps, filters, 0),
        part_of(split, tl.num_programs(1), tl.cdiv(filters, BK) * taps_h * taps_w),
        *(BM, BN, BK, POINTWISE, EVEN, False, False, PRECISION, WIDE, tl.float32),
    )
    at = ((which * height + y) * width + x) * (channels * groups) + group * channels
    if PARTIAL:
        at += split * images.to(tl.int64) * height * width * channels * groups
    stored = inside[:, None] & (n < channels)[None, :]
    tl.store(output + (at[:, None] + n[None, :]), sums.to(output.dtype.element_ty), mask=stored)


@triton.jit(do_not_specialize=[*_VARYING, "pixels"])
def conv2d_weight_grad(
    grad,  # [N, OH, OW, O]
    image,  # [N, H, W, C]
    output,  # [O, kh, kw, C / groups]; with PARTIAL float32 [splits, O, kh, kw, C / groups]
    pixels,  # N * OH * OW
    height,
    width,
    out_height,
    out_width,
    channel_units,
    filter_units,
    groups,
    stride_h,
    stride_w,
    padding_h,
    padding_w,
    dilation_h,
    dilation_w,
    KH: tl.constexpr,
    KW: tl.constexpr,
    VECTOR: tl.constexpr,
    OUT_VECTOR: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    GROUP: tl.constexpr,
    POINTWISE: tl.constexpr,
    FLAT: tl.constexpr,  # channels of the image, or 0: columns are the flattened (tap, channel)
    PRECISION: tl.constexpr,
    WIDE: tl.constexpr,
):
    """One tile of filters by channels of a tap, over one part of the pixels."""
    channels = channel_units * VECTOR
    filters = filter_units * OUT_VECTOR
    split = tl.program_id(1)
    group = tl.program_id(2)
    tiles_m = tl.cdiv(filters, BM)
    tiles_n = tl.num_programs(0) // tiles_m
    tile_m, tile_n = tile_of(tl.program_id(0), tiles_m, tiles_n, GROUP)
    m = tile_m * BM + tl.arange(0, BM)
    if FLAT:
        n = tile_n * BN + tl.arange(0, BN)
        tap = n // FLAT
        c = (n % FLAT)[None, :]
        shift_y = (tap // KW * dilation_h - padding_h)[None, :]
        shift_x = (tap % KW * dilation_w - padding_w)[None, :]
        column = n
        is_column = n < KH * KW * FLAT
    else:
        tap = tile_n % (KH * KW)
        n = tile_n // (KH * KW) * BN + tl.arange(0, BN)
        c = n[None, :]
        shift_y = tap // KW * dilation_h - padding_h
        shift_x = tap % KW * dilation_w - padding_w
        column = tap * channels + n
        is_column = n < channels
    sums = tl.zeros((BM, BN), tl.float32)
    first, last = part_of(split, tl.num_programs(1), tl.cdiv(pixels, BK))
    for block in range(first, last):
        p = block * BK + tl.arange(0, BK)
        wide_p = p
        if WIDE:
            wide_p = p.to(tl.int64)
        grad_at = wide_p * (filters * groups) + group * filters
        g_mask = (m < filters)[:, None] & (p < pixels)[None, :]
        g = tl.load(grad + (grad_at[None, :] + m[:, None]), g_mask, 0)
        if POINTWISE:
            at = (wide_p * (channels * groups))[:, None]
            here = (p < pixels)[:, None]
        else:
            line = p // out_width
            y = (line % out_height * stride_h)[:, None] + shift_y
            x = (p % out_width * stride_w)[:, None] + shift_x
            here = (p < pixels)[:, None] & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            at = (wide_p // (out_width * out_height) * (height * width))[:, None] + y * width + x
            at = at * (channels * groups)
        values = tl.load(
            image + (at + (group * channels + c)), mask=here & is_column[None, :], other=0
        )
        sums = tl.dot(g, values, sums, input_precision=PRECISION)
    at = (group * filters + m + split.to(tl.int64) * filters * groups) * (KH * KW * channels)
    stored = (m < filters)[:, None] & is_column[None, :]
    tl.store(
        output + (at[:, None] + column[None, :]), sums.to(output.dtype.element_ty), mask=stored
    )
