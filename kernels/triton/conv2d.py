"""2-D convolution, forward: an implicit matrix product with its epilogue in registers.

Idea and addressing: conv2d_product.py. Three forms of one kernel, chosen by constants: `POINTWISE`
(1x1, stride 1, no padding: a row is a pixel of the image, no address arithmetic), `FLAT` (few
channels: the first layer) and the general one. float16, bfloat16, float32 (TensorFloat32 in one
product or in three) and int8 are one source; the epilogue is conv2d_epilogue.py.

Blocking: BM pixels x BN filters x BK channels of a tap, 3 or 4 stages in flight. Where a layer has
fewer tiles than the GPU has processors (batch 1, 7x7 maps), the sum is cut into parts: each stores
its sums, and conv2d_reduce adds them in their order, so that every run gives the same bits.

Predicted on H100 (3.0 TB/s, 798 TFLOP/s, L2 5.5 TB/s), float16, batch 32: 3x3 256-256 14x14 26 us,
35 % of the roofline, limited by L2 (a 128 x 128 tile does 64 operations a byte); 1x1 64-256 56x56
24 us, 88 %, limited by memory; the convolutions of ResNet-50 51 % together. What would move it:
tiles of two processors that share reads, or the image through L1. Not yet run on hardware.
"""

import triton
import triton.language as tl

from cvperf.kernels.triton.conv2d_epilogue import finish
from cvperf.kernels.triton.conv2d_product import flat_product, part_of, product, tile_of

_VARYING = ["rows", "height", "width", "out_height", "out_width", "channel_units", "filter_units"]
_VARYING += ["groups", "stride_h", "stride_w", "padding_h", "padding_w", "dilation_h", "dilation_w"]
_NUMBERS = ["scale_image", "scale_residual", "inverse_scale"]
_NUMBERS += ["zero_image", "zero_residual", "zero_output", "fill"]


@triton.jit(do_not_specialize=_VARYING + _NUMBERS)
def conv2d(
    image,  # [N, H, W, C]
    weight,  # [O, kh, kw, C / groups], rows `weight_units * WEIGHT_VECTOR` apart
    bias,
    residual,
    output,  # [N, OH, OW, O]; with PARTIAL float32 or int32 [splits, N, OH, OW, O]
    weight_sums,
    scale_weight,
    rows,  # N * OH * OW
    height,
    width,
    out_height,
    out_width,
    channel_units,  # channels of a group / VECTOR
    filter_units,  # filters of a group / OUT_VECTOR
    groups,
    stride_h,
    stride_w,
    padding_h,
    padding_w,
    dilation_h,
    dilation_w,
    weight_pitch,
    scale_image,
    scale_residual,
    inverse_scale,
    zero_image,
    zero_residual,
    zero_output,
    fill,
    KH: tl.constexpr,
    KW: tl.constexpr,
    VECTOR: tl.constexpr,
    OUT_VECTOR: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    GROUP: tl.constexpr,
    POINTWISE: tl.constexpr,
    FLAT: tl.constexpr,  # channels of the image, or 0
    EVEN: tl.constexpr,
    FILL: tl.constexpr,
    UNSIGNED: tl.constexpr,
    PRECISION: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SCALAR: tl.constexpr,
    PARTIAL: tl.constexpr,
    WIDE: tl.constexpr,
    SUMS: tl.constexpr,
):
    """One tile of one group's output, or of one part of its sum."""
    channels = channel_units * VECTOR
    filters = filter_units * OUT_VECTOR
    tiles_n = tl.cdiv(filters, BN)
    tile_m, tile_n = tile_of(tl.program_id(0), tl.cdiv(rows, BM), tiles_n, GROUP)
    split = tl.program_id(1)
    group = tl.program_id(2)
    m = tile_m * BM + tl.arange(0, BM)
    n = tile_n * BN + tl.arange(0, BN)
    column = group * filters + n
    columns = (column * weight_pitch, n < filters)
    size = (height, width, channels * groups)
    wide_m = m
    if WIDE:
        wide_m = m.to(tl.int64)
    if POINTWISE:
        pixels = (wide_m * (channels * groups), m, m, m < rows)
    else:
        line = m // out_width
        top = line % out_height * stride_h - padding_h
        left = m % out_width * stride_w - padding_w
        which = wide_m // (out_width * out_height)
        pixels = (which * (height * width * channels * groups), top, left, m < rows)
    if FLAT:
        sums = flat_product(
            *(image, weight, pixels, size, columns, (dilation_h, dilation_w), fill),
            part_of(split, tl.num_programs(1), tl.cdiv(KH * KW * FLAT, BK)),
            *(KH, KW, FLAT, BM, BN, BK, FILL, UNSIGNED, PRECISION, SUMS),
        )
    else:
        strides = (1, KW * channels, channels)
        sums = product(
            *(image + group * channels, weight, pixels, size, columns, strides),
            *((KH, KW), (dilation_h, dilation_w), channels, fill),
            part_of(split, tl.num_programs(1), tl.cdiv(channels, BK) * (KH * KW)),
            *(BM, BN, BK, POINTWISE, EVEN, FILL, UNSIGNED, PRECISION, WIDE, SUMS),
        )
    if PARTIAL:
        at = (split * rows.to(tl.int64) + m) * (filters * groups)
        inside = (m < rows)[:, None] & (n < filters)[None, :]
        tl.store(output + (at[:, None] + column[None, :]), sums, mask=inside)
    else:
        finish(
            *(sums, wide_m * (filters * groups), m < rows, tile_n * BN, filters, group),
            *(output, bias, residual, weight_sums, scale_weight),
            (scale_image, scale_residual, inverse_scale),
            (zero_image, zero_residual, zero_output),
            *(ACTIVATION, SCALAR),
        )


@triton.jit(do_not_specialize=["rows", "splits", *_NUMBERS])
def conv2d_reduce(
    parts,  # [splits, rows, columns]
    output,  # [rows, columns]
    bias,
    residual,
    weight_sums,
    scale_weight,
    splits,
    rows,
    column_units,  # columns / OUT_VECTOR
    scale_image,
    scale_residual,
    inverse_scale,
    zero_image,
    zero_residual,
    zero_output,
    OUT_VECTOR: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SCALAR: tl.constexpr,
):
    """The parts of the sum added in their order, and the epilogue."""
    columns = column_units * OUT_VECTOR
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    inside = (m < rows)[:, None] & (n < columns)[None, :]
    at = m.to(tl.int64) * columns
    pointers = parts + (at[:, None] + n[None, :])
    sums = tl.zeros((BM, BN), parts.dtype.element_ty)
    for _ in range(splits):
        sums += tl.load(pointers, mask=inside, other=0)
        pointers += rows.to(tl.int64) * columns
    finish(
        *(sums, at, m < rows, tl.program_id(1) * BN, columns, 0),
        *(output, bias, residual, weight_sums, scale_weight),
        (scale_image, scale_residual, inverse_scale),
        (zero_image, zero_residual, zero_output),
        *(ACTIVATION, SCALAR),
    )
