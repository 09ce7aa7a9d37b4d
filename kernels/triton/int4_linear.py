"""Linear layer with 4-bit weights: unpacked in registers on their way to the tensor cores.

Idea. For few rows a linear layer only streams its weight: with 4 bits it takes a quarter of
float16's time. The product is made as weight times x transposed, out[n, m], because the weight must
pass through registers to be unpacked, and wgmma takes its left factor (only that one) from
registers. Two nibbles of a byte are neighbours in K, so unpacking is two shifts and a join. A group
of K has one scale a column, applied to the weight in x's dtype: one rounding, then exact products
summed in float32.

Blocking. Few rows: 32 columns x 16 rows x 256 of K, so that a layer of 4096 columns fills 128
processors; 8 KiB of weight in flight a stage and 4 stages keep an H100 busy (23 KB a processor by
Little's law at 1 us). Many rows: 128 x 128 x 64, 8 warps.

Predicted for an H100: 16 x 4096 x 4096 reads 8.9 MB (scales by groups of 128): 3 us at 3.0 TB/s, 6
us with the launch, 2 times int8_gemm's weights. Many rows: unpacking costs about as much as the
products, so half of the float16 rate; a layer that is always called so is better left in float16.
Not yet run on hardware.

Source: group-wise 4-bit weights as in Frantar et al., "GPTQ", ICLR 2023; the left factor from
registers as in Marlin (Frantar et al., 2024).
"""

import triton
import triton.language as tl

from cvperf.kernels.triton.activation import activate
from cvperf.kernels.triton.order import grouped


@triton.jit
def _per_group(table, n, N, first, groups, GROUP_K: tl.constexpr, BN: tl.constexpr,
               BK: tl.constexpr):  # fmt: skip
    """Rows n of table[N, groups] for columns ``first`` to ``first + BK``: [BN, BK] or [BN, 1]."""
    if GROUP_K >= BK:
        found = tl.load(table + n * groups + first // GROUP_K, mask=n < N, other=0)[:, None]
    else:
        group = first // GROUP_K + tl.arange(0, BK // GROUP_K)
        inside = (n < N)[:, None] & (group < groups)[None, :]
        found = tl.load(table + n[:, None] * groups + group[None, :], mask=inside, other=0)
        wide = tl.broadcast_to(found[:, :, None], (BN, BK // GROUP_K, GROUP_K))
        found = wide.reshape(BN, BK)
    return found


@triton.jit(do_not_specialize=["M"])
def int4_linear_kernel(
    x, weight, scale, zero, bias, out, M, N, K, stride_x, groups,
    GROUP_K: tl.constexpr, ACTIVATION: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """out[M, N] = x[M, K] times the weight[N, K / 2] that scale and zero [N, groups] expand.

    One program a tile, in grouped order. GROUP_K: columns of a group, a power of two.
    """
    row, column = grouped(tl.program_id(0), tl.cdiv(N, BN), tl.cdiv(M, BM), GROUP)
    n = row * BN + tl.arange(0, BN)
    m = column * BM + tl.arange(0, BM)
    k = tl.arange(0, BK)
    pair = tl.arange(0, BK // 2)
    at_x = x + m.to(tl.int64)[None, :] * stride_x + k[:, None]
    at_weight = weight + n.to(tl.int64)[:, None] * (K // 2) + pair[None, :]
    acc = tl.zeros((BN, BM), tl.float32)
    for first in range(0, K, BK):
        inside = (m < M)[None, :] & (first + k < K)[:, None]
        right = tl.load(at_x + first, mask=inside, other=0.0)
        inside = (n < N)[:, None] & (first // 2 + pair < K // 2)[None, :]
        both = tl.load(at_weight + first // 2, mask=inside, other=0)
        left = tl.join((both << 4) >> 4, both >> 4).reshape(BN, BK)
        if zero is not None:
            left = left - _per_group(zero, n, N, first, groups, GROUP_K, BN, BK)
        left = left.to(right.dtype) * _per_group(scale, n, N, first, groups, GROUP_K, BN, BK)
        acc = tl.dot(left, right, acc)
    if bias is not None:
        acc += tl.load(bias + n, mask=n < N, other=0.0).to(tl.float32)[:, None]
    value = activate(acc, ACTIVATION).to(out.dtype.element_ty)
    where = out + m.to(tl.int64)[None, :] * N + n[:, None]
    tl.store(where, value, mask=(m < M)[None, :] & (n < N)[:, None])
