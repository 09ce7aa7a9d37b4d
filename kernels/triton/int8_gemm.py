"""INT8 matrix product: exact int32 sums on tensor cores, finished in the same pass.

Idea. b is packed once as rows of its columns (K contiguous for both factors, as IMMA, IGMMA and
UTCIMMA want it; no transposition in any kernel), rows padded with zeros to 16 bytes so that every
copy is of 16 bytes. Unsigned a is turned signed by flipping the highest bit, which subtracts 128;
like a zero point it comes back in the epilogue through the column sums that were packed with b.

- ``int8_gemm_kernel``: persistent. As many programs as processors take tiles in grouped order; the
  loop over tiles and the loop over K are flattened into one, so that the copies of the next tile
  run during the epilogue of this one. On sm_90 and up tiles come by tensor descriptors (TMA), below
  by 16-byte asynchronous copies.
- ``int8_gemm_split_kernel`` and ``int8_gemm_finish_kernel``, for few rows: the sum over K is split
  so that all processors read b; parts are int32 and exact, added in order of K, then finished.

Blocking on sm_90: 128 x 256 x 128, 8 warps, 4 stages of 48 KiB: 128 registers of sums a thread. The
epilogue takes the columns in four parts, which needs no spills and leaves the memory for the fourth
stage. Few rows take tiles of 16 x 32 x 512: they only stream b.

Predicted for an H100 (int8 at 1596 Top/s, twice the measured bfloat16 rate; L2 at 7 TB/s): a tile
draws one byte from L2 for every 171 operations, so L2 allows 1197 Top/s and is what limits it: 4096
cubed 127 us, 68 % of the roofline with the last of 3.9 waves; 8192 cubed 71 %. Triton (3.6 to 3.8)
keeps a wgmma in flight across blocks of K only if the sums are float32: of int32 the compiled code
waits for each block (``WARPGROUP.DEPBAR gsb0, 0x0``), about 100 of 1200 cycles. It is hidden only
as far as L2 is the limit; two blocks of 128 x 128 on a processor (``SPACE.more``) would hide it, at
a quarter more L2 traffic. Multicast in clusters would halve the traffic, but ``num_ctas=2``
compiles to copies without it. 16 x 4096 x 4096 reads 16.8 MB: 10 us, of which 3 are the launch.

Not yet run on hardware.

Source: Jacob et al., CVPR 2018, for the zero-point algebra; the persistent form follows Triton's
tutorial "Persistent Matmul"; the fixed-order split after CUTLASS's parallel split-K.
"""

import triton
import triton.language as tl

from cvperf.kernels.triton.activation import activate, saturate_int8
from cvperf.kernels.triton.order import grouped


@triton.jit
def _sum(
    a, b, m0, n0, first, last, M, N, K, stride_a, stride_b,
    DESCRIPTORS: tl.constexpr, UNSIGNED: tl.constexpr, EVEN_K: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Rows from m0 of a times rows from n0 of b, over columns from ``first`` to ``last``: int32."""
    acc = tl.zeros((BM, BN), tl.int32)
    if not DESCRIPTORS:
        m = m0 + tl.arange(0, BM)
        n = n0 + tl.arange(0, BN)
        k = tl.arange(0, BK)
        at_a = a + m.to(tl.int64)[:, None] * stride_a + k[None, :]
        at_b = b + n.to(tl.int64)[None, :] * stride_b + k[:, None]
        rows = (m < M)[:, None]
        columns = (n < N)[None, :]
    for start in range(first, last, BK):
        if DESCRIPTORS:  # what lies outside is read as zero
            x = a.load([m0, start])
            y = b.load([n0, start]).T
        elif EVEN_K:
            x = tl.load(at_a + start, mask=rows, other=0)
            y = tl.load(at_b + start, mask=columns, other=0)
        else:
            inside = start + k < K
            x = tl.load(at_a + start, mask=rows & inside[None, :], other=0)
            y = tl.load(at_b + start, mask=columns & inside[:, None], other=0)
        if UNSIGNED:
            x = x ^ -128
        acc = tl.dot(x, y, acc, out_dtype=tl.int32)
    return acc


@triton.jit
def _finish(
    acc, m, n0, out, scale_a, scale_b, zero_a, sums_b, bias, M, N,
    SCALE_A_ROWS: tl.constexpr, SCALE_B_COLUMNS: tl.constexpr, ZERO_A_ROWS: tl.constexpr,
    UNSIGNED: tl.constexpr, ACTIVATION: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Epilogue of columns n0 to n0 + BN, in so many parts one after the other.

    Fewer columns at a time need fewer registers, and less shared memory to turn them around.
    """
    if PARTS == 1:
        _store(
            acc, m, n0 + tl.arange(0, BN), out,
            scale_a, scale_b, zero_a, sums_b, bias, M, N,
            SCALE_A_ROWS, SCALE_B_COLUMNS, ZERO_A_ROWS, UNSIGNED, ACTIVATION,
        )  # fmt: skip
    else:
        left, right = tl.split(acc.reshape(BM, 2, BN // 2).permute(0, 2, 1))
        _finish(
            left, m, n0, out, scale_a, scale_b, zero_a, sums_b, bias, M, N,
            SCALE_A_ROWS, SCALE_B_COLUMNS, ZERO_A_ROWS, UNSIGNED, ACTIVATION,
            BM, BN // 2, PARTS // 2,
        )  # fmt: skip
        _finish(
            right, m, n0 + BN // 2, out, scale_a, scale_b, zero_a, sums_b, bias, M, N,
            SCALE_A_ROWS, SCALE_B_COLUMNS, ZERO_A_ROWS, UNSIGNED, ACTIVATION,
            BM, BN // 2, PARTS // 2,
        )  # fmt: skip


@triton.jit
def _store(
    acc, m, n, out, scale_a, scale_b, zero_a, sums_b, bias, M, N,
    SCALE_A_ROWS: tl.constexpr, SCALE_B_COLUMNS: tl.constexpr, ZERO_A_ROWS: tl.constexpr,
    UNSIGNED: tl.constexpr, ACTIVATION: tl.constexpr,
):  # fmt: skip
    """Zero points, scales, bias, activation, the output's dtype; and the stores."""
    rows = m < M
    columns = n < N
    if UNSIGNED or zero_a is not None:
        sums = tl.load(sums_b + n, mask=columns, other=0)[None, :]
        if zero_a is None:
            acc += 128 * sums
        else:
            if ZERO_A_ROWS:
                zero = tl.load(zero_a + m, mask=rows, other=0)[:, None]
            else:
                zero = tl.load(zero_a)
            acc -= (zero - 128 if UNSIGNED else zero) * sums
    where = out + m.to(tl.int64)[:, None] * N + n[None, :]
    inside = rows[:, None] & columns[None, :]
    dtype: tl.constexpr = out.dtype.element_ty
    if dtype == tl.int32:
        if bias is not None:
            acc += tl.load(bias + n, mask=columns, other=0)[None, :]
        tl.store(where, acc, mask=inside)
    else:
        value = acc.to(tl.float32)
        if scale_a is not None:
            if SCALE_A_ROWS:
                value *= tl.load(scale_a + m, mask=rows, other=0.0)[:, None]
            else:
                value *= tl.load(scale_a)
        if scale_b is not None:
            if SCALE_B_COLUMNS:
                value *= tl.load(scale_b + n, mask=columns, other=0.0)[None, :]
            else:
                value *= tl.load(scale_b)
        if bias is not None:
            value += tl.load(bias + n, mask=columns, other=0.0)[None, :]
        value = activate(value, ACTIVATION)
        if dtype == tl.int8:
            tl.store(where, saturate_int8(value), mask=inside)
        else:
            tl.store(where, value.to(dtype), mask=inside)


@triton.jit(do_not_specialize=["M"])
def int8_gemm_kernel(
    a, b, out, scale_a, scale_b, zero_a, sums_b, bias, M, N, K, stride_a, stride_b,
    SCALE_A_ROWS: tl.constexpr, SCALE_B_COLUMNS: tl.constexpr, ZERO_A_ROWS: tl.constexpr,
    UNSIGNED: tl.constexpr, ACTIVATION: tl.constexpr,
    DESCRIPTORS: tl.constexpr, EVEN_K: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
    PARTS: tl.constexpr,
):  # fmt: skip
    """out[M, N] of a[M, K] and packed b; each program takes tiles until none is left."""
    tiles_m = tl.cdiv(M, BM)
    tiles_n = tl.cdiv(N, BN)
    for tile in tl.range(tl.program_id(0), tiles_m * tiles_n, tl.num_programs(0), flatten=True):
        row, column = grouped(tile, tiles_m, tiles_n, GROUP)
        acc = _sum(
            a, b, row * BM, column * BN, 0, K, M, N, K, stride_a, stride_b,
            DESCRIPTORS, UNSIGNED, EVEN_K, BM, BN, BK,
        )  # fmt: skip
        _finish(
            acc, row * BM + tl.arange(0, BM), column * BN, out,
            scale_a, scale_b, zero_a, sums_b, bias, M, N,
            SCALE_A_ROWS, SCALE_B_COLUMNS, ZERO_A_ROWS, UNSIGNED, ACTIVATION, BM, BN, PARTS,
        )  # fmt: skip


@triton.jit(do_not_specialize=["M"])
def int8_gemm_split_kernel(
    a, b, parts, M, N, K, stride_a, stride_b, steps,
    UNSIGNED: tl.constexpr, DESCRIPTORS: tl.constexpr, EVEN_K: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """parts[S, M, N] int32: the sums over ``steps`` blocks of K each. Grid: tiles, S."""
    tiles_m = tl.cdiv(M, BM)
    tile = tl.program_id(0)
    split = tl.program_id(1)
    m0 = tile % tiles_m * BM
    n0 = tile // tiles_m * BN
    first = split * steps * BK
    acc = _sum(
        a, b, m0, n0, first, tl.minimum(first + steps * BK, K), M, N, K, stride_a, stride_b,
        DESCRIPTORS, UNSIGNED, EVEN_K, BM, BN, BK,
    )  # fmt: skip
    m = m0 + tl.arange(0, BM)
    n = n0 + tl.arange(0, BN)
    row = split.to(tl.int64) * M + m
    tl.store(parts + row[:, None] * N + n[None, :], acc, mask=(m < M)[:, None] & (n < N)[None, :])


@triton.jit(do_not_specialize=["M", "splits"])
def int8_gemm_finish_kernel(
    parts, out, scale_a, scale_b, zero_a, sums_b, bias, M, N, splits,
    SCALE_A_ROWS: tl.constexpr, SCALE_B_COLUMNS: tl.constexpr, ZERO_A_ROWS: tl.constexpr,
    UNSIGNED: tl.constexpr, ACTIVATION: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """out[M, N] of parts[S, M, N], added in order of S. Grid: rows of tiles, columns of tiles."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    inside = (m < M)[:, None] & (n < N)[None, :]
    at = parts + m.to(tl.int64)[:, None] * N + n[None, :]
    size = M.to(tl.int64) * N
    acc = tl.zeros((BM, BN), tl.int32)
    for split in range(splits):
        acc += tl.load(at + split * size, mask=inside, other=0)
    _store(
        acc, m, n, out, scale_a, scale_b, zero_a, sums_b, bias, M, N,
        SCALE_A_ROWS, SCALE_B_COLUMNS, ZERO_A_ROWS, UNSIGNED, ACTIVATION,
    )  # fmt: skip
