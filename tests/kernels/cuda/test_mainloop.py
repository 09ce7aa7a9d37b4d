"""The main loop of matrix products and its epilogue: layouts, stages, loaders, edges, endings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cvperf.backends.cuda.epilogue import ACTIVATION, TYPES
from cvperf.backends.cuda.launch import Kernel, launch
from cvperf.backends.reference.activation import activate
from cvperf.ops._activation import ACTIVATIONS
from tests.kernels.cuda.emulation import Schedule
from tests.kernels.cuda.faults import Fault
from tests.kernels.cuda.harness import SCHEDULES, as_on, assert_close, to_device

FILE = str(Path(__file__).parent / "mainloop.cu")
NAMES = {torch.float16: "__half", torch.bfloat16: "__nv_bfloat16", torch.int8: "signed char"}
HALVES = (torch.float16, torch.bfloat16)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=str)


def run(
    name: str, grid: tuple[int, int], threads: int, *args: Any, schedule: Schedule, shared: int
) -> None:
    with as_on(80, schedule):
        launch(Kernel(FILE, name), grid, threads, *to_device(args), shared_bytes=shared)


def halves(
    size: tuple[int, int, int],
    dtype: torch.dtype = torch.float16,
    tile: tuple[int, ...] = (64, 64, 32, 2, 2, 3),
    turned: tuple[bool, bool] = (False, False),
    schedule: Schedule = SCHEDULES[0],
) -> None:
    """A product of 16-bit numbers is the reference's."""
    m, k, n = size
    bm, bn, bk, warps_m, warps_n, stages = tile
    a, b = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)
    given = [x.t().contiguous() if turn else x for x, turn in zip((a, b), turned, strict=True)]
    out = to_device(torch.full((m, n), torch.nan))
    flags = ", ".join(str(turn).lower() for turn in turned)
    name = f"halves<{NAMES[dtype]}, {', '.join(map(str, tile))}, {flags}>"
    grid = (-(-m // bm), -(-n // bn))
    threads, shared = (
        32 * warps_m * warps_n,
        max(stages * (bm + bn) * bk * 2, 2 * bm * (bn + 8) * 4),
    )
    run(name, grid, threads, *given, out, m, n, k, schedule=schedule, shared=shared)
    assert_close(out.cpu(), a.double() @ b.double().t(), terms=k, what=f"{name} {size}")


# --- products of 16 bits --------------------------------------------------------------------------


@every_schedule
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_products_of_16_bits(dtype: torch.dtype, schedule: Schedule) -> None:
    halves((70, 200, 90), dtype, schedule=schedule)


@every_schedule
@pytest.mark.parametrize("turned", [(True, False), (False, True), (True, True)], ids=str)
def test_factors_whose_k_does_not_run_fastest(
    turned: tuple[bool, bool], schedule: Schedule
) -> None:
    halves((72, 200, 88), turned=turned, schedule=schedule)


@pytest.mark.parametrize(
    "tile",
    [
        (16, 32, 32, 1, 1, 2),
        (32, 16, 64, 2, 1, 5),
        (128, 64, 32, 2, 2, 4),
        (64, 128, 128, 1, 4, 3),
        (128, 128, 64, 2, 4, 3),
    ],
    ids=str,
)
@pytest.mark.parametrize("turned", [(False, False), (True, True)], ids=str)
def test_tiles_of_every_form(tile: tuple[int, ...], turned: tuple[bool, bool]) -> None:
    for schedule in SCHEDULES[1::4]:
        halves((136, 296, 72), tile=tile, turned=turned, schedule=schedule)


def test_ragged_sizes() -> None:
    for m, n in ((1, 1), (7, 65), (63, 3), (64, 64), (65, 127)):
        for k in (8, 16, 24, 32, 40, 96, 104):
            halves((m, k, n), schedule=SCHEDULES[-1])


# --- shared memory --------------------------------------------------------------------------------


@pytest.mark.parametrize("row_bytes", [32, 64, 128, 256, 512])
def test_no_two_of_eight_rows_or_eight_chunks_share_banks(row_bytes: int) -> None:
    chunks = row_bytes // 16
    out = to_device(torch.zeros(32, chunks, dtype=torch.int32))
    run(f"places<{row_bytes}>", (1, 1), 32, out, schedule=SCHEDULES[0], shared=0)
    places = out.cpu()
    assert sorted(places.flatten().tolist()) == list(range(0, 32 * row_bytes, 16))
    banks = places % 128 // 16
    for first in range(0, 32, 8):
        for chunk in range(chunks):
            assert len(set(banks[first : first + 8, chunk].tolist())) == 8
    for group in banks.flatten().view(-1, 8):  # as copies write them
        assert len(set(group.tolist())) == 8


# --- epilogue -------------------------------------------------------------------------------------


def finished(
    factors: torch.dtype,
    out_dtype: torch.dtype,
    activation: str | None = None,
    size: tuple[int, int, int] = (70, 50, 45),
    stride: int = 45,
    residual: bool = True,
    bias_dtype: torch.dtype = torch.float32,
    schedule: Schedule = SCHEDULES[0],
) -> None:
    """activation(a @ b.t() * scale + bias + residual), rounded, is the reference's."""
    m, k, n = size
    eight_bits = out_dtype in (torch.int8, torch.uint8)
    low, high = (0, 256) if out_dtype == torch.uint8 else (-128, 128)
    if factors == torch.int8:
        a, b = (torch.randint(-9, 9, (rows, k)).to(torch.int8) for rows in (m, n))
        scale = 0.03
    else:
        a, b = (torch.randn(rows, k).to(factors) for rows in (m, n))
        scale = 1.0
    bias = torch.randn(n).to(bias_dtype)
    out = torch.zeros(m, stride, dtype=out_dtype)
    more = torch.randint(low, high, (m, stride)) if eight_bits else torch.randn(m, stride)
    more = more.to(out_dtype)
    inverse, zero_out, scale_more, zero_more = (
        (16.0, 11, 0.02, -3) if eight_bits else (1.0, 0, 1.0, 0)
    )
    moved = to_device(out)
    run(
        *(f"finished<{NAMES[factors]}>", (-(-m // 64), -(-n // 32)), 64),
        *(a, b, moved, TYPES[out_dtype], bias, TYPES[bias_dtype], more if residual else None),
        *(ACTIVATION[activation], scale, inverse, zero_out, scale_more, zero_more),
        *(m, n, k, np.int64(stride)),
        schedule=schedule,
        shared=10240,
    )
    found = moved.cpu()
    assert not found[:, n:].any(), "written beside the matrix"
    found = found[:, :n]
    value = a.double() @ b.double().t() * scale + bias.double()
    if residual:
        value += (more[:, :n].double() - zero_more) * scale_more
    value = activate(activation, value)
    if eight_bits:
        value = (value * inverse + zero_out).clamp(low, high - 1)
        assert (found - value).abs().max() <= 0.5 + 1e-3
        assert found.min() == low
        assert found.max() == high - 1
    else:
        assert_close(found, value, terms=k, what=f"{factors} {out_dtype} {activation}")


def test_every_activation_of_the_ops_has_a_number() -> None:
    assert list(ACTIVATION) == [None, *ACTIVATIONS]


@every_schedule
@pytest.mark.parametrize("out", [torch.float32, torch.float16, torch.int8, torch.uint8], ids=str)
def test_8_bit_factors_with_bias_and_residual(out: torch.dtype, schedule: Schedule) -> None:
    finished(torch.int8, out, schedule=schedule)


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("out", [*HALVES, torch.float32], ids=str)
def test_every_activation(out: torch.dtype, activation: str | None) -> None:
    finished(torch.float16, out, activation)


@pytest.mark.parametrize("stride", [45, 47, 48, 64])
@pytest.mark.parametrize("n", [40, 44, 45])
def test_rows_of_any_length_are_stored_whole(n: int, stride: int) -> None:
    for out in (torch.float32, torch.bfloat16, torch.int8):
        finished(torch.int8, out, size=(70, 50, n), stride=stride, schedule=SCHEDULES[-1])


@pytest.mark.parametrize("bias", [*HALVES, torch.float32], ids=str)
def test_a_bias_of_each_type_and_no_residual(bias: torch.dtype) -> None:
    finished(torch.bfloat16, torch.bfloat16, residual=False, bias_dtype=bias)


# --- planted faults -------------------------------------------------------------------------------


def early_and_late() -> None:
    for schedule in (SCHEDULES[0], SCHEDULES[1], SCHEDULES[-2], SCHEDULES[-1]):
        halves((64, 296, 64), schedule=schedule)


def turned_factors() -> None:
    halves((64, 96, 64), turned=(True, True))


def ragged() -> None:
    halves((33, 40, 17))


def every_order() -> None:
    for schedule in SCHEDULES[::2]:
        finished(torch.float16, torch.float32, schedule=schedule)


def unaligned_rows() -> None:
    finished(torch.int8, torch.bfloat16)


def aligned_rows() -> None:
    finished(torch.int8, torch.bfloat16, stride=48)


def low_bytes() -> None:
    finished(torch.int8, torch.uint8)


FAULTS = [
    Fault(
        "a step is multiplied before its copies have landed",
        "mainloop.cuh",
        "copy_async_wait<STAGES - 2>();  // the next step's",
        "copy_async_wait<STAGES - 1>();  // the next step's",
        early_and_late,
    ),
    Fault(
        "the first step is multiplied before its copies have landed",
        "mainloop.cuh",
        "copy_async_wait<STAGES - 2>();\n    __syncthreads();\n",
        "__syncthreads();\n",
        early_and_late,
    ),
    Fault(
        "no barrier between the reads of a step and the copies into its place",
        "mainloop.cuh",
        "__syncthreads();                // and everyone's",
        "// and everyone's",
        early_and_late,
    ),
    Fault(
        "copies go to the place that is being read",
        "mainloop.cuh",
        "int reading = 0, writing = STAGES - 1;",
        "int reading = 0, writing = 0;",
        early_and_late,
    ),
    Fault(
        "an empty group of copies is not counted",
        "mainloop.cuh",
        "      load_b(stage + A_BYTES, step);\n    }\n    copy_async_commit();",
        "      load_b(stage + A_BYTES, step);\n      copy_async_commit();\n    }",
        early_and_late,
    ),
    Fault(
        "ldmatrix adds where it must turn",
        *("mainloop.cuh", "(lane ^ depth * 32)", "(lane + depth * 32)", early_and_late),
    ),
    Fault(
        "ldmatrix adds where it must turn, K not fastest",
        *("mainloop.cuh", "(lane ^ i * 32)", "(lane + i * 32)", turned_factors),
    ),
    Fault(
        "copies are not turned",
        *("mainloop.cuh", "first = swizzled<ROW_BYTES>(row, column);"),
        *("first = row * ROW_BYTES + column * 16;", early_and_late),
    ),
    Fault(
        "the tail of K is not zero",
        *(
            "mainloop.cuh",
            "const bool inside = step * BK + chunk < k;",
            "const bool inside = true;",
        ),
        ragged,
    ),
    Fault(
        "a slab is written while it is read",
        *("mainloop.cuh", "slabs + part % SLABS * SLAB", "slabs", every_order),
    ),
    Fault(
        "a slab is read before it is written",
        *("mainloop.cuh", "__syncthreads();  // with two slabs", "// with two slabs", every_order),
    ),
    Fault(
        "vectors are stored across the end of a row",
        *("vector.cuh", "inside >= V && reinterpret_cast", "reinterpret_cast", aligned_rows),
    ),
    Fault(
        "elements past the end of a row are stored",
        *("vector.cuh", "if (v < inside) to[v]", "to[v]", unaligned_rows),
    ),
    Fault(
        "the zero of the output is not taken off the limits",
        *("activation.cuh", "static_cast<float>(HIGH - zero)", "static_cast<float>(HIGH)"),
        low_bytes,
    ),
]
