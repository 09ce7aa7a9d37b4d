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


@dataclass(frozen=True)
class Call:
    """One call that ships.

    Attributes:
        op: the op.
        name: what is special about it; (op, name) is unique.
        run: makes the call; within ``offline.compiling``.
    """

    op: str
    name: str
    run: Callable[[], Any]


def calls() -> Iterator[Call]:
    """Every call of every op."""
    yield from int8_gemm()


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor without data."""
    return torch.empty(shape, dtype=dtype, device="meta")


def int8_gemm() -> Iterator[Call]:
    from cvperf.backends.triton import int8_gemm as backend
    from cvperf.backends.triton.layouts import packed_int8_shape

    def call(name: str, m: int, k: int, n: int, out: torch.dtype) -> Call:
        a, b = meta(m, k, dtype=torch.int8), meta(*packed_int8_shape(k, n), dtype=torch.int8)
        scale_a, scale_b = (None, None) if out == torch.int32 else (meta(m), meta(n))
        arguments = (a, b, n, scale_a, scale_b, None, None, None, out)
        return Call("int8_gemm", name, lambda: backend.int8_gemm(*arguments))

    yield call("4096 cubed, exact sums", 4096, 4096, 4096, torch.int32)
    yield call("4096 cubed, scaled", 4096, 4096, 4096, torch.bfloat16)
