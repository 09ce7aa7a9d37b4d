"""Shipped calls of INT8 GEMM."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from cvperf.backends.cuda import int8_gemm as backend
from cvperf.backends.gpu.configs import forcing
from cvperf.backends.gpu.layouts import packed_int8_shape
from cvperf.backends.gpu.model import Architecture
from cvperf.backends.gpu.shipped import Call, meta


def calls() -> Iterator[Call]:
    """Every tile with signed and unsigned a; what follows the sums is the same code for all."""

    def call(
        kind: str,
        name: str,
        size: tuple[int, int, int],
        out: torch.dtype,
        dtype: torch.dtype = torch.int8,
        zero: bool = False,
        activation: str | None = None,
    ) -> Call:
        m, k, n = size
        a, b = meta(m, k, dtype=dtype), meta(*packed_int8_shape(k, n), dtype=torch.int8)
        scaled = out != torch.int32
        arguments = (
            *(a, b, n, meta(m) if scaled else None, meta(n) if scaled else None),
            *(meta(m, dtype=torch.int32) if zero else None, meta(n) if scaled else None),
            *(activation, out),
        )

        def run() -> None:
            with forcing(kind):
                backend.int8_gemm(*arguments)

        def share(gpu: Architecture) -> float:
            return backend.predicted_share(gpu, kind, m, n, k, out.itemsize)

        return Call("int8_gemm", f"{kind}, {name}", run, share)

    large, unsigned = (4096, 4096, 4096), torch.uint8
    yield call("large", "exact sums", large, torch.int32)
    yield call("large", "to bfloat16", large, torch.bfloat16, activation="silu")
    yield call("large", "requantised", large, torch.int8, activation="relu")
    yield call("large", "unsigned", large, torch.bfloat16, unsigned, zero=True)
    yield call("medium", "to float32", (1024, 1024, 1024), torch.float32)
    yield call("medium", "unsigned", (1024, 1024, 1024), torch.int8, unsigned, zero=True)
    yield call("skinny", "to bfloat16", (128, 4096, 4096), torch.bfloat16)
    yield call("skinny", "unsigned", (128, 4096, 4096), torch.bfloat16, unsigned, zero=True)
    yield call("skinny", "sum in parts", (64, 8192, 1024), torch.bfloat16)
    yield call("few", "to bfloat16", (16, 4096, 4096), torch.bfloat16)
    yield call("few", "unsigned", (1, 4096, 4096), torch.float32, unsigned, zero=True)
    yield call("few", "sum in parts", (16, 16384, 512), torch.bfloat16)
