"""INT8 GEMM in Triton: exact sums, every epilogue, ragged shapes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cvperf import ops
from cvperf.backends import reference
from tests.kernels.triton.faults import Fault
from tests.kernels.triton.harness import assert_close, on_triton

RANGES = {torch.int8: (-128, 128), torch.uint8: (0, 256)}


def random_matrix(rows: int, columns: int, dtype: torch.dtype = torch.int8) -> Tensor:
    low, high = RANGES[dtype]
    return torch.randint(low, high, (rows, columns), dtype=torch.int16).to(dtype)


def check_exact(m: int, k: int, n: int, dtype: torch.dtype, zero: Tensor | int | None) -> None:
    a, b = random_matrix(m, k, dtype), random_matrix(k, n)
    found = on_triton(ops.int8_gemm, a, b, zero_a=zero)
    expected = (a.long() - (0 if zero is None else zero)) @ b.long()
    assert torch.equal(found.long(), expected)


def ragged() -> None:
    check_exact(130, 200, 70, torch.int8, None)


def with_zero_points() -> None:
    check_exact(5, 40, 33, torch.uint8, torch.randint(0, 255, (5, 1), dtype=torch.int32))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
@pytest.mark.parametrize("zero", [None, 3])
def test_sums_are_exact(dtype: torch.dtype, zero: int | None) -> None:
    for m, k, n in ((1, 1, 1), (130, 300, 70), (3, 16, 300)):
        check_exact(m, k, n, dtype, zero)


@pytest.mark.parametrize("out", [torch.float32, torch.bfloat16, torch.float16])
def test_epilogue(out: torch.dtype) -> None:
    a, b = random_matrix(40, 100), random_matrix(100, 50)
    scale_a, scale_b, bias = torch.rand(40) * 0.01, torch.rand(50) * 0.01, torch.randn(50)
    found = on_triton(
        ops.int8_gemm, a, b, scale_a=scale_a, scale_b=scale_b, bias=bias, out_dtype=out,
        activation="silu",
    )  # fmt: skip
    packed = reference.pack_int8(b)
    expected = reference.int8_gemm(
        a, packed, 50, scale_a, scale_b, None, bias, "silu", torch.float64
    )
    assert_close(found, expected)


FAULTS = [
    Fault(
        "the tail of K is not masked",
        "int8_gemm",
        "inside = start + k < K",
        "inside = start + k >= 0",
        ragged,
    ),
    Fault("the zero point has the wrong sign", "int8_gemm", "acc -= zero", "acc += zero",
          with_zero_points),
]  # fmt: skip
