"""The INT8 matrix product in float64, where sums of 8-bit products are exact."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf.backends.reference.activation import activate
from cvperf.backends.registry import register


@register("pack_int8", "reference", "cpu", (torch.int8,), automatic=False)
def pack_int8(b: Tensor) -> Tensor:
    """Panels of 16 columns, [ceil(N/16)][ceil(K/4)][16][4] int8, then the column sums as int32.

    The last 64 bytes begin with an int32: the greatest sum of a pair's absolute values.
    """
    k, n = b.shape
    padded = torch.nn.functional.pad(b, (0, -n % 16, 0, -k % 4))
    quads, panels = padded.shape[0] // 4, padded.shape[1] // 16
    data = padded.reshape(quads, 4, panels, 16).permute(2, 0, 3, 1).contiguous()
    sums = padded.sum(0, dtype=torch.int32)
    widest = torch.zeros(16, dtype=torch.int32)
    if data.numel():
        widest[0] = data.int().abs().reshape(-1, 2).sum(1).max()
    parts = [data.flatten().view(torch.uint8), sums.view(torch.uint8), widest.view(torch.uint8)]
    return torch.cat(parts)


def unpacked_int8(packed: Tensor, k: int, n: int) -> Tensor:
    """The matrix [K, N] again, in float64."""
    quads, panels = (k + 3) // 4, (n + 15) // 16
    data = packed[: panels * quads * 64].view(torch.int8).reshape(panels, quads, 16, 4)
    return data.permute(1, 3, 0, 2).reshape(quads * 4, panels * 16)[:k, :n].double()


@register("int8_gemm", "reference", "cpu", (torch.int8, torch.uint8), automatic=False)
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
    """The formula in float64, where sums of 8-bit products are exact."""
    b = unpacked_int8(b_packed, a.shape[1], n)
    zero = 0 if zero_a is None else zero_a.double().reshape(-1, 1)
    value = (a.double() - zero) @ b
    if scale_a is not None:
        value = value * scale_a.double().reshape(-1, 1)
    if scale_b is not None:
        value = value * scale_b.double()
    if bias is not None:
        value = value + bias.double()
    value = activate(activation, value)
    if out_dtype == torch.int8:
        value = value.nan_to_num(nan=-128.0).round().clamp(-128, 127)
    return value.to(out_dtype)
