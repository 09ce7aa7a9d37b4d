"""The end of a convolution: from sums in registers to the output, in one store.

float: activation(sums + bias + residual). int8: the zero point is taken off by the sum of each
filter's weights, the scales make the number real, and what follows is float32; an 8-bit output is
rounded half to even and saturated.
"""

import triton
import triton.language as tl

from cvperf.kernels.triton.activation import activate


@triton.jit
def requantise(x, inverse_scale, zero, low: tl.constexpr, high: tl.constexpr):
    """round(x * inverse_scale) + zero within [low, high], half to even; NaN becomes low."""
    x = tl.minimum(tl.maximum(x * inverse_scale, low - zero), high - zero)
    # Adding 1.5 * 2^23 leaves no bits for a fraction; the numbers are below 2^10.
    return (x + 12582912.0 - 12582912.0).to(tl.int32) + zero


@triton.jit
def finish_columns(
    sums,  # [BM, BN], float32 or int32
    at,  # [BM] where each row begins in output and residual
    row_inside,
    column,  # [BN] filters
    column_inside,
    tensors,
    scales,
    zeros,
    ACTIVATION: tl.constexpr,
    SCALAR: tl.constexpr,
):
    """Bias, residual, activation, rounding and the store, for columns that fit the registers."""
    output, bias, residual, weight_sums, scale_weight = tensors
    scale_image, scale_residual, inverse_scale = scales
    zero_image, zero_residual, zero_output = zeros
    kind = output.dtype.element_ty
    eight_bits: tl.constexpr = kind == tl.int8 or kind == tl.uint8
    if weight_sums is not None:
        off = zero_image * tl.load(weight_sums + column, mask=column_inside, other=0)
        sums -= off[None, :]
    if sums.dtype == tl.int32 and kind != tl.int32:
        scale = scale_image
        if scale_weight is not None:
            if SCALAR:
                scale *= tl.load(scale_weight)
            else:
                scale *= tl.load(scale_weight + column, mask=column_inside, other=0)[None, :]
        sums = sums.to(tl.float32) * scale
    if bias is not None:
        sums += tl.load(bias + column, mask=column_inside, other=0).to(sums.dtype)[None, :]
    inside = row_inside[:, None] & column_inside[None, :]
    at = at[:, None] + column[None, :]
    if residual is not None:
        more = tl.load(residual + at, mask=inside, other=0)
        if eight_bits:
            sums += (more.to(tl.int32) - zero_residual).to(tl.float32) * scale_residual
        else:
            sums += more.to(tl.float32)
    sums = activate(sums, ACTIVATION)
    if eight_bits:
        if kind == tl.int8:
            sums = requantise(sums, inverse_scale, zero_output, -128, 127)
        else:
            sums = requantise(sums, inverse_scale, zero_output, 0, 255)
    tl.store(output + at, sums.to(kind), mask=inside)


@triton.jit
def finish(
    sums,  # [BM, BN], float32 or int32
    at,  # [BM] where each row begins in output and residual
    row_inside,
    start,  # the first column, counted within its group
    filters,  # of the group
    group,
    output,
    bias,  # None, or a number a filter
    residual,  # None, or laid out as the output
    weight_sums,  # int8 only: None without a zero point; int32, a number a filter
    scale_weight,  # None, or a number a filter; with SCALAR one for all
    scales,  # of image, residual and output (inverse)
    zeros,  # of image, residual and output
    ACTIVATION: tl.constexpr,
    SCALAR: tl.constexpr,
):
    """The end of a tile; of a large one half after half, or a residual would not fit beside it."""
    BM: tl.constexpr = sums.shape[0]
    BN: tl.constexpr = sums.shape[1]
    end = (output, bias, residual, weight_sums, scale_weight)
    if BM * BN >= 32768:
        left, right = tl.split(tl.permute(tl.reshape(sums, (BM, 2, BN // 2)), (0, 2, 1)))
        n = start + tl.arange(0, BN // 2)
        c = group * filters + n
        finish_columns(left, at, row_inside, c, n < filters, end, scales, zeros, ACTIVATION, SCALAR)
        n += BN // 2
        c += BN // 2
        finish_columns(
            right, at, row_inside, c, n < filters, end, scales, zeros, ACTIVATION, SCALAR
        )
    else:
        n = start + tl.arange(0, BN)
        c = group * filters + n
        finish_columns(sums, at, row_inside, c, n < filters, end, scales, zeros, ACTIVATION, SCALAR)
