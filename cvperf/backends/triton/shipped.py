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
    yield from nms()


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


def nms() -> Iterator[Call]:
    from cvperf.backends.triton import nms as backend

    def call(name: str, images: int, count: int, dtype: torch.dtype) -> Call:
        arguments = (meta(images, count, 4, dtype=dtype), meta(images, count, dtype=dtype))
        return Call("nms_padded", name, lambda: backend.nms_padded(*arguments, 0.5, 100))

    # nms launches the same kernels, and then reads how many boxes are left.
    yield call("1 image of 1,000", 1, 1000, torch.float32)
    yield call("8 images of 10,000, half", 8, 10_000, torch.float16)
    boxes, scores, ids = meta(10_000, 4), meta(10_000), meta(10_000, dtype=torch.int64)
    yield Call("batched_nms", "10,000", lambda: backend.classwise(boxes, scores, ids, 0.5))
