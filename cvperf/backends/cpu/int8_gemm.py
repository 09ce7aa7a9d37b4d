"""INT8 matrix products on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends.cpu.dtypes import DTYPES
from cvperf.backends.cpu.memory import empty
from cvperf.backends.cpu.run import run
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
    call, read, shape = plan(a, b_packed, n, scale_a, scale_b, zero_a, bias, activation, out_dtype)
    return run(call, read, empty(shape, out_dtype, torch.contiguous_format))


def plan(
    a: Tensor,
    b_packed: Tensor,
    n: int,
    scale_a: Tensor | None,
    scale_b: Tensor | None,
    zero_a: Tensor | None,
    bias: Tensor | None,
    activation: str | None,
    out_dtype: torch.dtype,
) -> tuple[_C.Int8GemmCall, tuple[Tensor | None, ...], tuple[int, int]]:
    """The native call, what it reads, and its output's size."""
    m, k = a.shape
    if k > 1 and a.stride(1) != 1:
        a = a.contiguous()
    scale_a, scale_b, zero_a, bias = (
        None if vector is None else vector.contiguous()
        for vector in (scale_a, scale_b, zero_a, bias)
    )
    call = _C.Int8GemmCall(
        DTYPES[a.dtype],
        m,
        k,
        n,
        k if a.is_contiguous() else a.stride(0),
        scale_a is not None and scale_a.numel() > 1,
        scale_b is not None and scale_b.numel() > 1,
        zero_a is not None and zero_a.numel() > 1,
        getattr(_C.Activation, activation or "none"),
        DTYPES[out_dtype],
    )
    return call, (a, b_packed.contiguous(), scale_a, scale_b, zero_a, bias), (m, n)
