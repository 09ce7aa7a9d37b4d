"""The roofline of made-up ceilings comes out to the digit."""

from __future__ import annotations

import dataclasses

import pytest

from cvperf.bench.results import Measurement
from cvperf.bench.roofline import BYTES, OPERATIONS, Ceilings, Level

CEILINGS = Ceilings(
    device="cpu",
    threads=2,
    flops={"float32": 200e9, "int8": 400e9},
    levels=(
        Level("L2", 1_000_000, 160e9),
        Level("L3", 32_000_000, 80e9),
        Level("memory", 16_000_000_000, 20e9),
    ),
)


def peak(op: str, rate: float, **fields: object) -> Measurement:
    """A row of the suite "peaks" on two threads."""
    unit = BYTES if op.startswith("copy") else OPERATIONS
    known = {
        "suite": "peaks",
        "op": op,
        "case": "2 threads",
        "contender": "cvperf",
        "status": "ok",
        "device": "cpu",
        "dtype": "n/a" if unit == BYTES else op.split("_")[1],
        "layout": "n/a",
        "shape": {"threads": 2},
        "median_ms": 1.0,
        "detail": {"rate": rate, "unit": unit},
    }
    return Measurement(**(known | fields))


def copy(level: str, capacity: int, rate: float) -> Measurement:
    detail = {"rate": rate, "unit": BYTES, "level": level, "capacity": capacity}
    return peak(f"copy_{level.lower()}", rate, detail=detail)


ROWS = [
    peak("fma_float32", 200e9),
    peak("dot_int8", 400e9),
    copy("memory", 16_000_000_000, 20e9),
    copy("L2", 1_000_000, 160e9),
    copy("L3", 32_000_000, 80e9),
]


def test_a_call_with_many_operations_a_byte_is_limited_by_the_arithmetic() -> None:
    assert CEILINGS.roofline_ms(200_000_000, 1000, "float32") == 1.0


def test_a_call_with_few_operations_a_byte_is_limited_by_the_bandwidth() -> None:
    assert CEILINGS.roofline_ms(1000, 200_000_000, "float32") == 10.0


def test_int8_products_are_held_against_the_int8_rate() -> None:
    assert CEILINGS.roofline_ms(400_000_000, 1000, "int8") == 1.0


@pytest.mark.parametrize(
    ("bytes", "level"),
    [
        (1, "L2"),
        (1_000_000, "L2"),
        (1_000_001, "L3"),
        (32_000_000, "L3"),
        (32_000_001, "memory"),
        (10**12, "memory"),
    ],
)
def test_the_bandwidth_is_that_of_the_smallest_level_that_holds_the_call(
    bytes: int, level: str
) -> None:
    rates = {"L2": 160e9, "L3": 80e9, "memory": 20e9}
    assert CEILINGS.level(bytes).name == level
    assert CEILINGS.roofline_ms(0, bytes, "float32") == bytes / rates[level] * 1e3


def test_on_a_gpu_every_call_reads_from_memory() -> None:
    gpu = dataclasses.replace(CEILINGS, device="cuda")
    assert gpu.level(1).name == "memory"
    assert gpu.roofline_ms(0, 20_000, "float32") == pytest.approx(0.001)


def test_a_call_of_unknown_work_has_no_roofline() -> None:
    assert CEILINGS.roofline_ms(0, 0, "float32") is None


def test_a_dtype_without_a_rate_has_no_roofline_unless_it_only_moves_bytes() -> None:
    assert CEILINGS.roofline_ms(1, 20_000_000, "float64") is None
    assert CEILINGS.roofline_ms(0, 80_000, "float64") == pytest.approx(0.0005)


def test_asking_for_the_rate_of_an_unmeasured_dtype_names_those_measured() -> None:
    with pytest.raises(ValueError, match="float32, int8; got 'float64'"):
        CEILINGS.rate("float64")


def test_the_balance_is_where_memory_and_arithmetic_take_equally_long() -> None:
    assert CEILINGS.balance("float32") == 10.0
    assert CEILINGS.balance("int8") == 20.0


def test_ceilings_are_read_from_rows_with_the_levels_in_order() -> None:
    assert Ceilings.from_rows(ROWS) == CEILINGS


def test_rows_of_other_suites_are_passed_over() -> None:
    other = peak("conv2d_float32", 1.0, suite="kernels", device="cuda", detail={})
    assert Ceilings.from_rows([other, *ROWS]) == CEILINGS


def test_the_later_of_two_measurements_counts() -> None:
    again = Ceilings.from_rows([*ROWS, peak("fma_float32", 210e9), copy("L3", 32_000_000, 85e9)])
    assert again.flops == {"float32": 210e9, "int8": 400e9}
    assert [level.rate for level in again.levels] == [160e9, 85e9, 20e9]


def test_rows_of_two_devices_are_refused_until_one_is_named() -> None:
    both = [*ROWS, *(dataclasses.replace(row, device="cuda", shape={}) for row in ROWS)]
    with pytest.raises(ValueError, match="cpu with 2 threads, cuda with 0 threads"):
        Ceilings.from_rows(both)
    assert Ceilings.from_rows(both, "cpu") == CEILINGS
    assert Ceilings.from_rows(both, "cuda").device == "cuda"


def test_rows_of_two_thread_counts_are_refused() -> None:
    other = dataclasses.replace(ROWS[0], shape={"threads": 1})
    with pytest.raises(ValueError, match="cpu with 1 threads, cpu with 2 threads"):
        Ceilings.from_rows([*ROWS, other])


def test_rows_without_ceilings_are_refused_with_the_command_that_makes_them() -> None:
    with pytest.raises(ValueError, match=r"none\. `cvperf bench peaks`"):
        Ceilings.from_rows([])
    with pytest.raises(ValueError, match="at least one arithmetic rate and one bandwidth"):
        Ceilings.from_rows(ROWS[:1])
