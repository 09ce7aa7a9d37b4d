"""INT8 GEMM in Triton: exact sums in every kind of shape, every epilogue, layouts, packing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

import cvperf
from cvperf import ops
from cvperf.backends import reference
from cvperf.backends.gpu.configs import forcing
from cvperf.backends.gpu.layouts import packed_int8_shape
from cvperf.backends.triton import int8_gemm as backend
from cvperf.ops._activation import ACTIVATIONS
from tests.kernels.triton.faults import Fault
from tests.kernels.triton.harness import assert_close, on_triton, to_device

RANGES = {torch.int8: (-128, 128), torch.uint8: (0, 256)}


@dataclass(frozen=True)
class Case:
    """A shape with ragged edges, the shipped configuration to run it with, parts of its sum."""

    m: int
    k: int
    n: int
    kind: str
    parts: int = 1


CASES = {
    "few rows": Case(5, 1040, 70, "few"),
    "few rows, split": Case(3, 1700, 40, "few", 2),
    "skinny, split": Case(33, 1100, 40, "skinny", 3),
    "medium": Case(130, 200, 90, "medium"),
    "large": Case(260, 300, 300, "large"),
}
FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def random_matrix(rows: int, columns: int, dtype: torch.dtype = torch.int8) -> Tensor:
    low, high = RANGES[dtype]
    return torch.randint(low, high, (rows, columns), dtype=torch.int16).to(dtype)


@contextmanager
def run_as(case: Case) -> Iterator[None]:
    """Calls within run with the case's configuration, whatever the model would pick."""

    def splitting(gpu: Any, config: Any, m: int, n: int, k: int, size: int) -> tuple[int, int]:
        steps = math.ceil(math.ceil(k / config["BK"]) / case.parts)
        return math.ceil(k / config["BK"] / steps), steps

    with forcing(case.kind), mock.patch.object(backend, "splitting", splitting):
        yield


def check_exact(
    case: Case,
    dtype: torch.dtype = torch.int8,
    zero: Tensor | int | None = None,
    capability: int = 90,
) -> None:
    a, b = random_matrix(case.m, case.k, dtype), random_matrix(case.k, case.n)
    bias = torch.randint(-(2**20), 2**20, (case.n,), dtype=torch.int32)
    with run_as(case):
        found = on_triton(ops.int8_gemm, a, b, zero_a=zero, bias=bias, capability=capability)
    expected = (a.long() - (0 if zero is None else zero)) @ b.long() + bias
    assert torch.equal(found.long(), expected)


def vectors(case: Case, rows: bool = True) -> dict[str, Any]:
    m, n = case.m, case.n
    return {
        "scale_a": torch.rand(m) * 0.02 + 1e-3 if rows else 0.01,
        "scale_b": torch.rand(n) * 0.02 + 1e-3 if rows else 0.01,
        "zero_a": torch.randint(-100, 100, (m,), dtype=torch.int32) if rows else 7,
        "bias": torch.randn(n),
    }


def formula(a: Tensor, b: Tensor, given: dict[str, Any], activation: str | None) -> Tensor:
    """The reference's answer, in float64."""

    def tensor(name: str) -> Tensor:
        value = given[name]
        return value if isinstance(value, Tensor) else torch.tensor([value])

    return reference.int8_gemm(
        *(a, reference.pack_int8(b), b.shape[1], tensor("scale_a"), tensor("scale_b")),
        *(tensor("zero_a"), given["bias"], activation, torch.float64),
    )


def check_epilogue(
    case: Case, out: torch.dtype, activation: str | None, capability: int = 90
) -> None:
    a, b, given = random_matrix(case.m, case.k), random_matrix(case.k, case.n), vectors(case)
    options = {"activation": activation, "out_dtype": out, "capability": capability}
    with run_as(case):
        found = on_triton(ops.int8_gemm, a, b, **given, **options)
    assert found.dtype == out
    assert_close(found, formula(a, b, given, activation), what=f"{case} {out} {activation}")


# --- sums -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("kind", CASES)
def test_sums_are_exact_with_pointers_and_with_descriptors(kind: str, capability: int) -> None:
    check_exact(CASES[kind], capability=capability)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("kind", CASES)
def test_sums_of_unsigned_values_are_exact_with_zero_points(kind: str, capability: int) -> None:
    zero = torch.randint(0, 256, (CASES[kind].m, 1), dtype=torch.int32)
    check_exact(CASES[kind], torch.uint8, zero, capability)
    check_exact(CASES["medium"], torch.uint8, 3, capability)
    check_exact(CASES["medium"], torch.uint8, None, capability)


def test_the_model_picks_what_runs_when_no_one_else_does() -> None:
    a, b = random_matrix(40, 600), random_matrix(600, 100)
    assert torch.equal(on_triton(ops.int8_gemm, a, b).long(), a.long() @ b.long())


def test_the_largest_sums_do_not_saturate() -> None:
    k = 2048
    for dtype, left, right in ((torch.int8, -128, -128), (torch.uint8, 255, -128)):
        a = torch.full((17, k), left, dtype=dtype)
        b = torch.full((k, 18), right, dtype=torch.int8)
        found = on_triton(ops.int8_gemm, a, b)
        assert torch.equal(found, torch.full((17, 18), k * left * right, dtype=torch.int32))


@pytest.mark.parametrize(("m", "k", "n"), [(0, 8, 4), (4, 8, 0), (0, 0, 0), (3, 0, 5)])
def test_empty(m: int, k: int, n: int) -> None:
    found = on_triton(ops.int8_gemm, random_matrix(m, k), random_matrix(k, n))
    assert torch.equal(found, torch.zeros(m, n, dtype=torch.int32))


# --- epilogue -------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("out", FLOATS, ids=str)
def test_the_epilogue_is_the_formula(out: torch.dtype, activation: str | None) -> None:
    check_epilogue(CASES["medium"], out, activation)
    check_epilogue(CASES["few rows, split"], out, activation, 80)


def test_the_epilogue_of_large_tiles_in_parts() -> None:
    check_epilogue(CASES["large"], torch.float32, "silu", 80)
    check_epilogue(CASES["large"], torch.bfloat16, "silu", 90)


def test_one_number_for_all_rows_and_columns() -> None:
    case = CASES["medium"]
    a, b = random_matrix(case.m, case.k), random_matrix(case.k, case.n)
    given = vectors(case, rows=False)
    found = on_triton(ops.int8_gemm, a, b, **given, out_dtype=torch.float32)
    assert_close(found, formula(a, b, given, None))


@pytest.mark.parametrize("kind", ["medium", "few rows, split"])
def test_int8_out_is_rounded_and_saturated(kind: str) -> None:
    case = CASES[kind]
    a, b, given = random_matrix(case.m, case.k), random_matrix(case.k, case.n), vectors(case)
    with run_as(case):
        found = on_triton(ops.int8_gemm, a, b, **given, out_dtype=torch.int8)
    value = formula(a, b, given, None).clamp(-128, 127)
    # float32 may fall on the other side of a tie: half a unit, and a little.
    assert (found - value).abs().max() <= 0.5 + 1e-3
    assert found.min() == -128
    assert found.max() == 127


def test_int8_out_rounds_half_to_even() -> None:
    a = torch.tensor([[1], [3], [5], [-1], [-3], [127], [-128]], dtype=torch.int8)
    b = torch.tensor([[1, 127]], dtype=torch.int8)
    found = on_triton(ops.int8_gemm, a, b, scale_a=0.5, out_dtype=torch.int8)
    assert found[:, 0].tolist() == [0, 2, 2, 0, -2, 64, -64]
    assert found[:, 1].tolist() == [64, 127, 127, -64, -128, 127, -128]
    bias = torch.tensor([float("nan"), float("inf")])
    odd = on_triton(ops.int8_gemm, a[:1], b, bias=bias, out_dtype=torch.int8)
    assert odd.tolist() == [[-128, 127]]


# --- layouts and packing --------------------------------------------------------------------------


def test_rows_that_copies_of_16_bytes_cannot_read_are_served() -> None:
    b, wide = random_matrix(32, 20), random_matrix(9, 64)
    for name, a in {
        "rows apart": wide[:, :32],
        "rows apart, not at 16 bytes": wide[:, 5:37],
        "every second row": wide[::2, :32],
        "every second column": wide[:, ::2],
        "transposed": random_matrix(32, 9).t(),
        "one row repeated": wide[:1, :32].expand(7, 32),
        "one row of many": wide[3:4, 16:48],
    }.items():
        found = on_triton(ops.int8_gemm, a, b)
        assert torch.equal(found.long(), a.long() @ b.long()), f"a with {name}"


def test_a_packed_weight_is_its_columns_padded_and_their_sums() -> None:
    b = random_matrix(37, 50)
    packed = on_triton(lambda matrix: ops.pack_int8(matrix).data, b)
    assert tuple(packed.shape) == packed_int8_shape(37, 50) == (55, 48)
    assert torch.equal(packed[:50, :37], b.t())
    assert not packed[:50, 37:].any()
    sums = packed[50:].view(-1).view(torch.int32)[:50]
    assert torch.equal(sums, b.sum(0, dtype=torch.int32))


def test_packed_and_unpacked_give_the_same_bits() -> None:
    a, b = random_matrix(11, 70), random_matrix(70, 35)

    def packed(left: Tensor, right: Tensor) -> Tensor:
        return ops.int8_gemm(left, ops.pack_int8(right))

    assert torch.equal(on_triton(packed, a, b), on_triton(ops.int8_gemm, a, b))


def test_a_weight_packed_for_the_cpu_is_refused() -> None:
    packed = ops.pack_int8(random_matrix(16, 16))
    moved = ops.PackedInt8(to_device(packed.data), packed.k, packed.n)
    with pytest.raises(cvperf.ArgumentError, match=r"int8\[20, 16\].*pack_int8 on the device of a"):
        on_triton(ops.int8_gemm, random_matrix(2, 16), moved)


# --- planted faults -------------------------------------------------------------------------------


def large_tiles() -> None:
    check_exact(CASES["large"], capability=80)


def large_tiles_by_descriptors() -> None:
    check_exact(CASES["large"], capability=90)


def few_rows() -> None:
    check_exact(CASES["few rows, split"], torch.uint8, 3)


def bfloat16_out() -> None:
    check_epilogue(CASES["large"], torch.bfloat16, None)


def leaky() -> None:
    check_epilogue(CASES["medium"], torch.float32, "leaky_relu")


def rounding() -> None:
    test_int8_out_rounds_half_to_even()


FAULTS = [
    Fault(
        "the tail of K is not masked",
        *("int8_gemm", "inside = start + k < K", "inside = start + k >= 0", large_tiles),
    ),
    Fault(
        "rows past the end are read",
        *("int8_gemm", "rows = (m < M)[:, None]", "rows = (m >= 0)[:, None]", large_tiles),
    ),
    Fault(
        "columns past the end are written",
        *("int8_gemm", "columns = n < N\n", "columns = n >= 0\n", large_tiles),
    ),
    Fault(
        "tiles of b start at the row of a",
        *("int8_gemm", "b.load([n0, start])", "b.load([m0, start])", large_tiles_by_descriptors),
    ),
    Fault(
        "the last columns are taken in the wrong order",
        *("int8_gemm", "left, right = tl.split", "right, left = tl.split", bfloat16_out),
    ),
    Fault(
        "unsigned values stay 128 too low",
        *("int8_gemm", "zero - 128 if UNSIGNED", "zero if UNSIGNED", few_rows),
    ),
    Fault(
        "the parts of a split sum overlap",
        *("int8_gemm", "first = split * steps * BK", "first = split * BK", few_rows),
    ),
    Fault(
        "the last part of a split sum is left out",
        *("int8_gemm", "range(splits)", "range(splits - 1)", few_rows),
    ),
    Fault(
        "the last group of tiles is taken for a whole one",
        *("order", "tl.minimum(tiles_m - first, GROUP)", "GROUP", large_tiles),
    ),
    Fault(
        "the slope of leaky_relu is that of relu",
        *("activation", "0.01 * x", "0.0", leaky),
    ),
    Fault(
        "int8 is cut off, not rounded",
        *("activation", "((x + 12582912.0) - 12582912.0)", "x", rounding),
    ),
]
