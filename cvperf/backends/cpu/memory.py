"""Large outputs on memory that is used again: fresh pages can cost more than the computation."""

from __future__ import annotations

import math
import os

import torch
from torch import Tensor

from cvperf import _C

RECYCLED_FROM = 4 << 20  # bytes, two huge pages; torch reuses smaller blocks well by itself


def limit_asked_for() -> int:
    """Bytes of CVPERF_CPU_CACHE_MB."""
    value = os.environ.get("CVPERF_CPU_CACHE_MB", "512")
    if not value.isdecimal():
        raise ValueError(f"CVPERF_CPU_CACHE_MB must be megabytes, 0 or more; got {value!r}")
    return int(value) << 20


_C.keep_free(limit_asked_for())


def empty(shape: tuple[int, ...], dtype: torch.dtype, format: torch.memory_format) -> Tensor:
    """``torch.empty``, from 4 MB on in a block that an earlier output has left.

    Up to CVPERF_CPU_CACHE_MB (512 if it is not set, 0 for none) of such blocks are kept.
    """
    bytes = math.prod(shape) * dtype.itemsize
    if bytes < RECYCLED_FROM:
        return torch.empty(shape, dtype=dtype, memory_format=format)
    strides = torch.empty(shape, dtype=dtype, memory_format=format, device="meta").stride()
    storage = torch.frombuffer(_C.Block(bytes), dtype=torch.uint8).untyped_storage()
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape, strides)
