"""The calls that stand for everything that ships: what is compiled and checked without a GPU.

Each op has a function that yields calls on ``meta`` tensors; together they launch every shipped
configuration. The sizes are those of real layers, since they decide how a kernel is specialised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cvperf.backends.triton.model import Architecture


@dataclass(frozen=True)
class Call:
    """One call that ships.

    Attributes:
        op: the op.
        name: what is special about it; (op, name) is unique.
        run: makes the call; within ``offline.compiling``.
        share: share of the roofline that the analytical model predicts on an architecture; None
            for a call that is not about speed.
    """

    op: str
    name: str
    run: Callable[[], Any]
    share: Callable[[Architecture], float] | None = None


def calls() -> Iterator[Call]:
    """Every call of every op."""
    from cvperf.backends.triton import shipped_conv2d

    yield from int8_gemm()
    yield from int4_linear()
    yield from shipped_conv2d.calls()


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor without data."""
    return torch.empty(shape, dtype=dtype, device="meta")


def int8_gemm() -> Iterator[Call]:
    from cvperf.backends.triton import int8_gemm as backend
    from cvperf.backends.triton.configs import forcing
    from cvperf.backends.triton.layouts import packed_int8_shape

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

    large = (4096, 4096, 4096)
    yield call("large", "exact sums", large, torch.int32)
    yield call("large", "to bfloat16", large, torch.bfloat16, activation="silu")
    yield call("large", "to float32", large, torch.float32)
    yield call("large", "requantised", large, torch.int8, activation="relu")
    yield call("large", "unsigned", large, torch.bfloat16, torch.uint8, zero=True)
    yield call("large", "K with a tail", (4096, 4080, 4096), torch.bfloat16)
    yield call("medium", "to float32", (1024, 1024, 1024), torch.float32)
    yield call("skinny", "to bfloat16", (128, 4096, 4096), torch.bfloat16)
    yield call("skinny", "sum in parts", (64, 8192, 1024), torch.bfloat16)
    yield call("few", "to bfloat16", (16, 4096, 4096), torch.bfloat16)
    yield call("few", "unsigned", (1, 4096, 4096), torch.float32, torch.uint8, zero=True)
    yield call("few", "sum in parts", (16, 16384, 512), torch.bfloat16)


def int4_linear() -> Iterator[Call]:
    from cvperf.backends.triton import int4_linear as backend
    from cvperf.backends.triton.configs import forcing

    def call(kind: str, name: str, m: int, group: int, zero: bool, dtype: torch.dtype) -> Call:
        n, k = 4096, 4096
        x, weight = meta(m, k, dtype=dtype), meta(n, k // 2, dtype=torch.uint8)
        scale, bias = meta(n, k // group, dtype=dtype), meta(n, dtype=dtype)
        shift = meta(n, k // group, dtype=torch.int8) if zero else None

        def run() -> None:
            with forcing(kind):
                backend.int4_linear(x, weight, scale, shift, bias, None)

        def share(gpu: Architecture) -> float:
            return backend.predicted_share(gpu, kind, m, n, k)

        return Call("int4_linear", f"{kind}, {name}", run, share)

    yield call("few", "groups of 128", 16, 128, False, torch.float16)
    yield call("few", "groups of 32 with zeros", 1, 32, True, torch.bfloat16)
    yield call("many", "groups of 128", 4096, 128, False, torch.float16)
    yield call("many", "groups of 32 with zeros", 4096, 32, True, torch.bfloat16)
