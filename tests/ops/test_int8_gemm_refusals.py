"""INT8 GEMM: what it refuses, and how it says so."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import cvperf
from cvperf import ops
from cvperf.ops import PackedInt8, int8_gemm, pack_int8

A, B = torch.zeros(4, 8, dtype=torch.int8), torch.zeros(8, 6, dtype=torch.int8)
FLOAT = {"out_dtype": torch.float32}


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        (A.float(), B, {}, r"a must be a\[M, K\] of one of int8, uint8; got float32\[4, 8\]"),
        (A[0], B, {}, r"a must be a\[M, K\], got int8\[8\]"),
        (A, B.to(torch.uint8), {}, r"b must be b\[K, N\] of one of int8; got uint8"),
        (A, B.t(), {}, r"as many rows as a has columns.*int8\[4, 8\].*\[6, 8\]"),
        (A, B.to("meta"), {}, "same device"),
        (
            A,
            PackedInt8(torch.zeros(5, dtype=torch.uint8), 8, 6),
            {},
            r"b.data must be uint8\[256\]",
        ),
        (A, PackedInt8(torch.zeros(192), 8, 6), {}, r"b.data must be uint8\[256\] .*got float32"),
        (A, pack_int8(B.t().contiguous()), {}, "as many rows"),
        (A, B, {"out_dtype": torch.float64}, "out_dtype must be one of int32, float32"),
        (A, B, {"scale_a": 2.0}, "do not apply to out_dtype=torch.int32"),
        (A, B, {"activation": "relu"}, "do not apply to out_dtype=torch.int32"),
        (A, B, {"bias": torch.zeros(6)}, "bias must be .* one of int32; got float32"),
        (A, B, FLOAT | {"bias": torch.zeros(6, dtype=torch.int32)}, "one of float32; got int32"),
        (A, B, FLOAT | {"bias": torch.zeros(5)}, r"one entry a column.*N = 6.*float32\[5\]"),
        (A, B, FLOAT | {"activation": "gelu"}, "one of relu, relu6.*got 'gelu'"),
        (A, B, FLOAT | {"scale_a": torch.ones(5)}, r"scale_a must be .*M = 4.*float32\[5\]"),
        (A, B, FLOAT | {"scale_a": torch.ones(1, 4)}, r"\[M, 1\].*got float32\[1, 4\]"),
        (A, B, FLOAT | {"scale_b": torch.ones(4)}, r"scale_b must be .*N = 6.*float32\[4\]"),
        (A, B, FLOAT | {"scale_b": torch.ones(6).double()}, "float32; got float64"),
        (A, B, {"zero_a": torch.zeros(4)}, "zero_a must be .*int32; got float32"),
        (A, B, {"zero_a": 128}, "value of a's dtype, -128 to 127; got 128"),
        (A.to(torch.uint8), B, {"zero_a": -1}, "0 to 255; got -1"),
    ],
)
def test_bad_values_are_named(
    a: Tensor, b: Tensor | PackedInt8, options: dict[str, object], message: str
) -> None:
    with pytest.raises(cvperf.ArgumentError, match=message):
        int8_gemm(a, b, **options)


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        ([[1]], B, {}, "a must be a torch.Tensor"),
        (A, [[1]], {}, "b must be a torch.Tensor .* or a PackedInt8"),
        (A, B, {"out_dtype": "float32"}, "out_dtype must be a torch.dtype"),
        (A, B, {"zero_a": 1.5}, "zero_a must be an int"),
        (A, B, FLOAT | {"scale_a": True}, "scale_a must be a number"),
        (A, B, FLOAT | {"activation": 3}, "activation must be a name"),
        (A, B, FLOAT | {"bias": 1.0}, "bias must be a torch.Tensor"),
    ],
)
def test_wrong_types_are_named(
    a: object, b: object, options: dict[str, object], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        ops.int8_gemm(a, b, **options)


def test_only_int8_matrices_can_be_packed() -> None:
    with pytest.raises(cvperf.ArgumentError, match=r"b must be b\[K, N\], got int8\[3\]"):
        pack_int8(torch.zeros(3, dtype=torch.int8))
    with pytest.raises(cvperf.ArgumentError, match="got float32"):
        pack_int8(torch.zeros(3, 3))
