"""INT8 matrix product: exact int32 sums on tensor cores, finished in the same pass.

First form: one block a tile, pointers. Not yet run on hardware.
"""

import triton
import triton.language as tl

from cvperf.kernels.triton.activation import activate, saturate_int8


@triton.jit
def int8_gemm_kernel(
    a, b, out, scale_a, scale_b, zero_a, sums_b, bias,
    M, N, K, stride_a, stride_b,
    SCALE_A_ROWS: tl.constexpr, SCALE_B_COLUMNS: tl.constexpr, ZERO_A_ROWS: tl.constexpr,
    UNSIGNED: tl.constexpr, ACTIVATION: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    tiles_m = tl.cdiv(M, BM)
    tiles_n = tl.cdiv(N, BN)
    tile = tl.program_id(0)
    width = GROUP * tiles_n
    first = tile // width * GROUP
    rows = min(tiles_m - first, GROUP)
    m = (first + tile % width % rows) * BM + tl.arange(0, BM)
    n = (tile % width // rows) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    at_a = a + m.to(tl.int64)[:, None] * stride_a + k[None, :]
    at_b = b + n.to(tl.int64)[None, :] * stride_b + k[:, None]
    acc = tl.zeros((BM, BN), tl.int32)
    for start in range(0, K, BK):
        inside = start + k < K
        x = tl.load(at_a + start, mask=(m < M)[:, None] & inside[None, :], other=0)
        if UNSIGNED:
            x = x ^ -128
        y = tl.load(at_b + start, mask=(n < N)[None, :] & inside[:, None], other=0)
        acc = tl.dot(x, y, acc, out_dtype=tl.int32)
    if UNSIGNED or zero_a is not None:
        zero = tl.zeros((BM,), tl.int32)
        if zero_a is not None:
            zero += tl.load(zero_a + m, mask=m < M, other=0) if ZERO_A_ROWS else tl.load(zero_a)
        if UNSIGNED:
            zero -= 128
        acc -= zero[:, None] * tl.load(sums_b + n, mask=n < N, other=0)[None, :]
    where = out + m.to(tl.int64)[:, None] * N + n[None, :]
    inside = (m < M)[:, None] & (n < N)[None, :]
    if out.dtype.element_ty == tl.int32:
        if bias is not None:
            acc += tl.load(bias + n, mask=n < N, other=0)[None, :]
        tl.store(where, acc, mask=inside)
    else:
        value = acc.to(tl.float32)
        if scale_a is not None:
            factor = (
                tl.load(scale_a + m, mask=m < M, other=0)[:, None]
                if SCALE_A_ROWS
                else tl.load(scale_a)
            )
            value *= factor
        if scale_b is not None:
            factor = (
                tl.load(scale_b + n, mask=n < N, other=0)[None, :]
                if SCALE_B_COLUMNS
                else tl.load(scale_b)
            )
            value *= factor
        if bias is not None:
            value += tl.load(bias + n, mask=n < N, other=0)[None, :]
        value = activate(value, ACTIVATION)
        if out.dtype.element_ty == tl.int8:
            tl.store(where, saturate_int8(value), mask=inside)
        else:
            tl.store(where, value.to(out.dtype.element_ty), mask=inside)
