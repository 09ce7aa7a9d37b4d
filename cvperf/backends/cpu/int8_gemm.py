"""INT8 matrix products on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends.cpu.dtypes import DTYPES
from cvperf.backends.registry import register


@register("pack_int8", "cpu", "cpu", (torch.int8,))
def pack_int8(b: Tensor) -> Tensor:
    k, n = b.shape
    packed = torch.empty(_C.packed_int8_bytes(k, n), dtype=torch.uint8)
    _C.pack_int8(
        b.data_ptr(),
        k,
        n,
        b.stride(0),
        b.stride(1),
        packed.data_ptr(),
        torch.get_num_threads(),
    )
    return packed


@register("int8_gemm", "cpu", "cpu", (torch.int8, torch.uint8))
def int8_gemm(
    a: Tensor,
    b_packed: Tensor,
    n: int,
    scale_a: Tensor | None,
    scale_b: Tensor | None,
    zero_a: Tensor | None,
    bias: Tensor | None,
    activation: str | None,
    out_dtype: torch.dtype,
) -> Tensor:
    m, k = a.shape
    if a.is_contiguous():
        a_stride = k
    else:
        if k > 1 and a.stride(1) != 1:
            a = a.contiguous()
        a_stride = a.stride(0)
    out = torch.empty(m, n, dtype=out_dtype)
    # Vectors are kept until the kernel returns: their pointers are what it gets.
    b_packed = b_packed.contiguous()
    scale_a_ptr = scale_b_ptr = zero_a_ptr = bias_ptr = 0
    scale_a_per_row = scale_b_per_column = zero_a_per_row = False
    if scale_a is not None:
        scale_a = scale_a.contiguous()
        scale_a_ptr, scale_a_per_row = scale_a.data_ptr(), scale_a.numel() > 1
    if scale_b is not None:
        scale_b = scale_b.contiguous()
        scale_b_ptr, scale_b_per_column = scale_b.data_ptr(), scale_b.numel() > 1
    if zero_a is not None:
        zero_a = zero_a.contiguous()
        zero_a_ptr, zero_a_per_row = zero_a.data_ptr(), zero_a.numel() > 1
    if bias is not None:
        bias = bias.contiguous()
        bias_ptr = bias.data_ptr()
    _C.int8_gemm(
        a.data_ptr(),
        DTYPES[a.dtype],
        m,
        k,
        n,
        a_stride,
        b_packed.data_ptr(),
        scale_a_ptr,
        scale_a_per_row,
        scale_b_ptr,
        scale_b_per_column,
        zero_a_ptr,
        zero_a_per_row,
        bias_ptr,
        getattr(_C.Activation, activation or "none"),
        out.data_ptr(),
        DTYPES[out_dtype],
        torch.get_num_threads(),
    )
    return out
