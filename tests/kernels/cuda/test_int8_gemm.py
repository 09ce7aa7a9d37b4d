"""INT8 GEMM in CUDA C++: exact sums in every kind of shape, every epilogue, layouts, packing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

import cvperf
from cvperf import ops
from cvperf.backends import reference
from cvperf.backends.cuda import int8_gemm as backend
from cvperf.backends.gpu.configs import forcing
from cvperf.backends.gpu.layouts import packed_int8_shape
from cvperf.backends.gpu.model import ARCHITECTURES
from cvperf.ops._activation import ACTIVATIONS
from tests.kernels.cuda.emulation import Schedule
from tests.kernels.cuda.faults import Fault
from tests.kernels.cuda.harness import SCHEDULES, assert_close, on_cuda, to_device

RANGES = {torch.int8: (-128, 128), torch.uint8: (0, 256)}
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
CAPABILITY = 80


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
    "few rows, split": Case(3, 1700, 40, "few", 3),
    "skinny, split": Case(33, 1100, 40, "skinny", 3),
    "medium": Case(130, 200, 90, "medium"),
    "large": Case(200, 300, 300, "large"),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


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


def gemm(*args: Any, schedule: Schedule = SCHEDULES[0], **keywords: Any) -> Tensor:
    found: Tensor = on_cuda(
        ops.int8_gemm, *args, capability=CAPABILITY, schedule=schedule, **keywords
    )
    return found


def check_exact(
    case: Case,
    dtype: torch.dtype = torch.int8,
    zero: Tensor | int | None = None,
    schedules: list[Schedule] = SCHEDULES,
) -> None:
    a, b = random_matrix(case.m, case.k, dtype), random_matrix(case.k, case.n)
    bias = torch.randint(-(2**20), 2**20, (case.n,), dtype=torch.int32)
    expected = (a.long() - (0 if zero is None else zero)) @ b.long() + bias
    for schedule in schedules:
        with run_as(case):
            found = gemm(a, b, zero_a=zero, bias=bias, schedule=schedule)
        assert torch.equal(found.long(), expected), f"{case} {schedule}"


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


def check_epilogue(case: Case, out: torch.dtype, activation: str | None) -> None:
    a, b, given = random_matrix(case.m, case.k), random_matrix(case.k, case.n), vectors(case)
    with run_as(case):
        found = gemm(a, b, **given, activation=activation, out_dtype=out)
    assert found.dtype == out
    assert_close(found, formula(a, b, given, activation), what=f"{case} {out} {activation}")


# --- sums -----------------------------------------------------------------------------------------


@every_case
def test_sums_are_exact(case: Case) -> None:
    check_exact(case)


@every_case
def test_sums_of_unsigned_values_are_exact_with_zero_points(case: Case) -> None:
    check_exact(case, torch.uint8, torch.randint(0, 256, (case.m, 1), dtype=torch.int32))
    check_exact(case, torch.uint8, 3, SCHEDULES[:1])
    check_exact(case, torch.uint8, None, SCHEDULES[:1])
    check_exact(case, torch.int8, -5, SCHEDULES[:1])


def test_ragged_sizes() -> None:
    sizes = (1, 7, 15, 16, 17, 33, 100)
    for m, k, n in itertools.product(sizes, sizes, sizes):
        check_exact(Case(m, k, n, "skinny"), schedules=SCHEDULES[-1:])
    for m, k, n in zip(sizes, sizes[::-1], sizes, strict=True):
        check_exact(Case(m, k + 500, n, "few", parts=2), schedules=SCHEDULES[-1:])


def test_the_model_picks_what_runs_when_no_one_else_does() -> None:
    a, b = random_matrix(40, 600), random_matrix(600, 100)
    assert torch.equal(gemm(a, b).long(), a.long() @ b.long())


def test_the_largest_sums_do_not_saturate() -> None:
    k = 2048
    for dtype, left, right in ((torch.int8, -128, -128), (torch.uint8, 255, -128)):
        a = torch.full((17, k), left, dtype=dtype)
        b = torch.full((k, 18), right, dtype=torch.int8)
        assert torch.equal(gemm(a, b), torch.full((17, 18), k * left * right, dtype=torch.int32))


@pytest.mark.parametrize(("m", "k", "n"), [(0, 8, 4), (4, 8, 0), (0, 0, 0), (3, 0, 5)])
def test_empty(m: int, k: int, n: int) -> None:
    found = gemm(random_matrix(m, k), random_matrix(k, n))
    assert torch.equal(found, torch.zeros(m, n, dtype=torch.int32))


def test_bits_are_the_same_in_every_order_and_for_every_split() -> None:
    case = CASES["few rows, split"]
    a, b, given = random_matrix(case.m, case.k), random_matrix(case.k, case.n), vectors(case)
    found = []
    for parts, schedule in itertools.product((1, 2, 3, 7), SCHEDULES):
        with run_as(replace(case, parts=parts)):
            options = {"activation": "silu", "out_dtype": torch.float32, "schedule": schedule}
            found.append(gemm(a, b, **given, **options))
    assert all(torch.equal(one, found[0]) for one in found)


def test_every_candidate_of_autotuning_is_exact() -> None:
    a, b = random_matrix(135, 530), random_matrix(530, 150)
    for config in backend.SPACE.candidates(ARCHITECTURES[90]):
        with forcing(config):
            found = gemm(a, b, schedule=SCHEDULES[-1])
        assert torch.equal(found.long(), a.long() @ b.long()), str(config)


# --- epilogue -------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("out", FLOATS, ids=str)
def test_the_epilogue_is_the_formula(out: torch.dtype, activation: str | None) -> None:
    check_epilogue(CASES["medium"], out, activation)
    check_epilogue(CASES["few rows, split"], out, activation)


@pytest.mark.parametrize("out", FLOATS, ids=str)
def test_the_epilogue_of_large_tiles(out: torch.dtype) -> None:
    check_epilogue(CASES["large"], out, "silu")


@pytest.mark.parametrize("kind", ["medium", "few rows, split"])
def test_one_number_for_all_rows_and_columns(kind: str) -> None:
    case = CASES[kind]
    a, b = random_matrix(case.m, case.k), random_matrix(case.k, case.n)
    given = vectors(case, rows=False)
    with run_as(case):
        found = gemm(a, b, **given, out_dtype=torch.float32)
    assert_close(found, formula(a, b, given, None))


@pytest.mark.parametrize("kind", ["medium", "few rows, split"])
def test_int8_out_is_rounded_and_saturated(kind: str) -> None:
    case = CASES[kind]
    a, b, given = random_matrix(case.m, case.k), random_matrix(case.k, case.n), vectors(case)
    with run_as(case):
        found = gemm(a, b, **given, out_dtype=torch.int8)
    value = formula(a, b, given, None).clamp(-128, 127)
    # float32 may fall on the other side of a tie: half a unit, and a little.
    assert (found - value).abs().max() <= 0.5 + 1e-3
    assert found.min() == -128
    assert found.max() == 127


def test_int8_out_rounds_half_to_even() -> None:
    a = torch.tensor([[1], [3], [5], [-1], [-3], [127], [-128]], dtype=torch.int8)
    b = torch.tensor([[1, 127]], dtype=torch.int8)
    found = gemm(a, b, scale_a=0.5, out_dtype=torch.int8)
    assert found[:, 0].tolist() == [0, 2, 2, 0, -2, 64, -64]
    assert found[:, 1].tolist() == [64, 127, 127, -64, -128, 127, -128]
    bias = torch.tensor([float("nan"), float("inf")])
    odd = gemm(a[:1], b, bias=bias, out_dtype=torch.int8)
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
        assert torch.equal(gemm(a, b).long(), a.long() @ b.long()), f"a with {name}"


def test_a_packed_weight_is_its_columns_padded_and_their_sums() -> None:
    b = random_matrix(37, 50)
    packed = on_cuda(lambda matrix: ops.pack_int8(matrix).data, b)
    assert tuple(packed.shape) == packed_int8_shape(37, 50) == (55, 48)
    assert torch.equal(packed[:50, :37], b.t())
    assert not packed[:50, 37:].any()
    sums = packed[50:].view(-1).view(torch.int32)[:50]
    assert torch.equal(sums, b.sum(0, dtype=torch.int32))


def test_packed_and_unpacked_give_the_same_bits() -> None:
    a, b = random_matrix(11, 70), random_matrix(70, 35)

    def packed(left: Tensor, right: Tensor) -> Tensor:
        return ops.int8_gemm(left, ops.pack_int8(right))

    assert torch.equal(on_cuda(packed, a, b, capability=CAPABILITY), gemm(a, b))


def test_a_weight_packed_for_the_cpu_is_refused() -> None:
    packed = ops.pack_int8(random_matrix(16, 16))
    moved = ops.PackedInt8(to_device(packed.data), packed.k, packed.n)
    with pytest.raises(cvperf.ArgumentError, match=r"int8\[20, 16\].*pack_int8 on the device of a"):
        gemm(random_matrix(2, 16), moved)


# --- planted faults -------------------------------------------------------------------------------


def many_tiles() -> None:
    check_exact(Case(300, 48, 200, "skinny"), schedules=SCHEDULES[:1])


def with_a_zero() -> None:
    check_exact(CASES["medium"], torch.uint8, 3, SCHEDULES[:1])


def few_rows() -> None:
    check_exact(CASES["few rows, split"], torch.uint8, 3, SCHEDULES[:1])


def scaled() -> None:
    check_epilogue(CASES["medium"], torch.float32, None)


def leaky() -> None:
    check_epilogue(CASES["medium"], torch.float32, "leaky_relu")


def rounding() -> None:
    test_int8_out_rounds_half_to_even()


FAULTS = [
    Fault(
        "tiles of b start at the row of a",
        *("int8_gemm.cu", "load_b(b, K, n0, N, K)", "load_b(b, K, m0, N, K)", many_tiles),
    ),
    Fault(
        "the last group of tiles is taken for a whole one",
        *("order.cuh", "min(tiles_m - first, group)", "group", many_tiles),
    ),
    Fault(
        "the zero point is added",
        *("epilogue.cuh", "- off * kept.sums[v]", "+ off * kept.sums[v]", with_a_zero),
    ),
    Fault(
        "all rows have the scale of the first",
        *("epilogue.cuh", "values[index * step]", "values[0]", scaled),
    ),
    Fault(
        "the parts of a split sum overlap",
        *("int8_gemm.cu", "first = blockIdx.y * steps", "first = blockIdx.y", few_rows),
    ),
    Fault(
        "the last part of a split sum is left out",
        *("int8_gemm.cu", "part < count", "part < count - 1", few_rows),
    ),
    Fault(
        "a step past the end of a part is added",
        *("int8_gemm.cu", "min(first + steps,", "min(first + steps + 1,", few_rows),
    ),
    Fault(
        "the slope of leaky_relu is that of relu",
        *("activation.cuh", "0.01f * x", "0.0f * x", leaky),
    ),
    Fault(
        "int8 is cut off, not rounded",
        *("activation.cuh", "static_cast<int>(rintf(x))", "static_cast<int>(x)", rounding),
    ),
]
