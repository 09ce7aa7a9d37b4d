"""The factors of an 8-bit matrix product as GPU kernels read them: rows of 16-byte copies."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf.backends.gpu.layouts import packed_int8_shape


def pack_int8(b: Tensor) -> Tensor:
    """b[K, N] with its columns as rows, padded to 16 bytes, and their sums in further rows."""
    k, n = b.shape
    packed = torch.zeros(packed_int8_shape(k, n), dtype=torch.int8, device=b.device)
    packed[:n, :k] = b.t()
    column_sums(packed, n).copy_(b.sum(0, dtype=torch.int32))
    return packed


def column_sums(packed: Tensor, n: int) -> Tensor:
    """The column sums in a packed weight: int32 [N]."""
    return packed[n:].view(-1).view(torch.int32)[:n]


def readable(a: Tensor, k: int) -> Tensor:
    """a, or a copy of it, as k columns in rows that all start at a multiple of 16 bytes."""
    m, given = a.shape
    step = a.stride(0)
    aligned = a.data_ptr() % 16 == 0 and (m == 1 or (step % 16 == 0 and step >= k))
    if given == k and a.stride(1) == 1 and aligned:
        return a if m > 1 else a.view(-1).view(1, k)
    padded = a.new_zeros((m, k))
    padded[:, :given] = a
    return padded
