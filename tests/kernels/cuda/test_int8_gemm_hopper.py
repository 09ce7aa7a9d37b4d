"""INT8 GEMM by TMA and wgmma: exact sums and every epilogue, in the emulator and on an H100."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cvperf import ops
from cvperf.backends.cuda import hopper
from cvperf.backends.cuda import int8_gemm as backend
from cvperf.backends.gpu.configs import Config, forcing
from cvperf.backends.gpu.model import A100, B200, H100
from tests.kernels.cuda.emulation import Schedule
from tests.kernels.cuda.faults import Fault
from tests.kernels.cuda.harness import SCHEDULES, assert_close, on_cuda
from tests.kernels.cuda.test_int8_gemm import formula, random_matrix

WIDE, NARROW = hopper.tile(256, 192, 3), hopper.tile(128, 128, 6)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=str)


def gemm(config: Config, *args: Any, schedule: Schedule = SCHEDULES[0], **keywords: Any) -> Tensor:
    with forcing(config):
        found: Tensor = on_cuda(ops.int8_gemm, *args, capability=90, schedule=schedule, **keywords)
    return found


def check_exact(
    config: Config,
    m: int,
    k: int,
    n: int,
    dtype: torch.dtype = torch.int8,
    schedule: Schedule = SCHEDULES[0],
) -> None:
    a, b = random_matrix(m, k, dtype), random_matrix(k, n)
    found = gemm(config, a, b, schedule=schedule)
    assert torch.equal(found.long(), a.long() @ b.long())


@every_schedule
def test_sums_are_exact_where_tiles_are_ragged(schedule: Schedule) -> None:
    check_exact(WIDE, 200, 300, 300, schedule=schedule)


@every_schedule
def test_stages_are_reused_within_a_tile_and_from_tile_to_tile(schedule: Schedule) -> None:
    # On two processors blocks take two tiles, of 5 steps in 4 stages.
    check_exact(WIDE, 300, 530, 40, schedule=schedule)


def test_unsigned_sums_are_exact() -> None:
    check_exact(NARROW, 140, 1000, 150, torch.uint8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("schedule", [SCHEDULES[0], SCHEDULES[-1]], ids=str)
def test_the_epilogue_is_that_of_the_other_kernels(dtype: torch.dtype, schedule: Schedule) -> None:
    m, k, n = 130, 160, 300
    a, b = random_matrix(m, k, torch.uint8), random_matrix(k, n)
    given = {
        "scale_a": torch.rand(m) * 0.02 + 1e-3,
        "scale_b": torch.rand(n) * 0.02 + 1e-3,
        "zero_a": torch.randint(0, 256, (m,), dtype=torch.int32),
        "bias": torch.randn(n),
    }
    found = gemm(NARROW, a, b, **given, activation="silu", out_dtype=dtype, schedule=schedule)
    assert_close(found, formula(a, b, given, "silu"), what=f"{dtype} {schedule}")


def test_large_products_take_it_on_hopper_and_nowhere_else() -> None:
    for gpu, taken in ((A100, False), (H100, True), (B200, False)):
        kind = backend.picked(gpu, 4096, 4096, 4096, 2)
        assert hopper.is_tile(backend.SPACE.default(gpu, kind)) == taken, gpu.name
    few = backend.SPACE.default(H100, backend.picked(H100, 8, 4096, 4096, 2))
    assert not hopper.is_tile(few)


def exact_in_any_order() -> None:
    for schedule in SCHEDULES:
        check_exact(NARROW, 150, 900, 20, schedule=schedule)


FILE = "mainloop_hopper.cuh"
FAULTS = [
    Fault(
        "the parity of a stage's bytes is the other one",
        *(FILE, "barrier_wait(full(stage), phase);", "barrier_wait(full(stage), phase ^ 1);"),
        exact_in_any_order,
    ),
    Fault(
        "a stage is refilled before it is free",
        *(FILE, "barrier_wait(free(stage), phase ^ 1);", ""),
        exact_in_any_order,
    ),
    Fault(
        "a stage waits for the bytes of one factor",
        *(FILE, "arrive_expect(full(stage), STAGE_BYTES)", "arrive_expect(full(stage), A_BYTES)"),
        exact_in_any_order,
    ),
    Fault(
        "a tile's last products are not waited for",
        *(FILE, "wgmma_wait<0>();", "wgmma_wait<1>();"),
        exact_in_any_order,
    ),
    Fault(
        "a stage is called free while it is multiplied",
        *(FILE, "wgmma_wait<1>();  // the step", "wgmma_wait<2>();  // the step"),
        exact_in_any_order,
    ),
    Fault(
        "a step advances K by half",
        *(FILE, "+ 2 * k, b + 2 * k", "+ 2 * k, b + k"),
        exact_in_any_order,
    ),
    Fault(
        "the rows of a warpgroup begin in the middle of a swizzle",
        *(FILE, "BLOCKS * 64 * ROW;", "BLOCKS * 63 * ROW;"),
        exact_in_any_order,
    ),
    Fault(
        "barriers are not shown to copies",
        *(FILE, "fence_barrier_init();", ""),
        exact_in_any_order,
    ),
    Fault(
        "a slab is read before the warp has written it",
        *(FILE, "      __syncwarp();\n      const int first", "      const int first"),
        exact_in_any_order,
    ),
    Fault(
        "a is loaded where b belongs",
        *("int8_gemm_hopper.cu", "gpu::tile_load(to_b, b", "gpu::tile_load(to_b, a"),
        exact_in_any_order,
    ),
]
