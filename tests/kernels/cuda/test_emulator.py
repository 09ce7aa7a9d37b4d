"""The emulator itself: what it computes, and that it finds what it says it finds."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cvperf.backends.cuda.launch import Kernel, launch
from tests.kernels.cuda import emulation, layouts, sanitized
from tests.kernels.cuda.emulation import SANITIZER, SCHEDULES, EmulationError, Schedule
from tests.kernels.cuda.harness import ON_GPU

pytestmark = pytest.mark.skipif(ON_GPU, reason="tests of the emulator")
fatal_in_tsan = pytest.mark.skipif(
    SANITIZER == "thread", reason="a race, or a thread that never ends, ends the process there"
)
FILE = str(Path(__file__).parent / "emulator.cu")
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=str)


def run(name: str, threads: int, *args: object, schedule: Schedule = SCHEDULES[0], blocks: int = 1):
    with emulation.emulating(schedule, 90):
        launch(Kernel(FILE, name), (blocks,), threads, *args)


def random_integers(*shape: int, low: int = -128, high: int = 128) -> Tensor:
    return torch.randint(low, high, shape, dtype=torch.int32)


@contextmanager
def finding(message: str) -> Iterator[None]:
    with pytest.raises(EmulationError, match=message):
        yield


# --- what is right answers right ------------------------------------------------------------------


@every_schedule
def test_a_barrier_makes_shared_memory_known_to_all(schedule: Schedule) -> None:
    numbers, out = random_integers(3, 64), torch.zeros(3, 64, dtype=torch.int32)
    run("reversed<true>", 64, numbers, out, schedule=schedule, blocks=3)
    assert torch.equal(out, numbers.flip(1))


@every_schedule
def test_copies_land_before_they_are_waited_for(schedule: Schedule) -> None:
    numbers, out = random_integers(5, 64), torch.zeros(64, dtype=torch.int32)
    run("pipelined<true>", 64, numbers, out, 5, schedule=schedule)
    assert torch.equal(out, numbers.sum(0, dtype=torch.int32).roll(32))


@every_schedule
def test_halves_of_a_block_have_barriers_of_their_own(schedule: Schedule) -> None:
    out = torch.zeros(128, dtype=torch.int32)
    run("named_barriers", 128, out, schedule=schedule)
    assert torch.equal(out.view(2, 64), torch.arange(128, dtype=torch.int32).view(2, 64).flip(1))


def test_lanes_tell_each_other_what_cuda_says_they_do() -> None:
    out, lane = torch.zeros(8, 32, dtype=torch.int32), torch.arange(32)
    run("lanes", 32, out)
    thirds = sum(1 << i for i in range(0, 32, 3))
    expected = [
        lane // 8 * 8 + 3,
        lane ^ 5,
        torch.where(lane % 16 >= 2, lane - 2, lane),
        torch.where(lane < 29, lane + 3, lane),
        torch.full((32,), thirds),
        torch.full((32,), sum(range(32)) + 31 + 0),
        torch.full((32,), 1 + 2),
        lane + (1 * 3 - 1 * 4 + 2 * 5 - 2 * 6) + 0x00007711,
    ]
    assert torch.equal(out.long() & 0xFFFFFFFF, torch.stack(expected))


@pytest.mark.parametrize(
    ("name", "dtype", "out"),
    [
        ("product<signed char, int, 1>", torch.int8, torch.int32),
        ("product<unsigned char, int, 1>", torch.uint8, torch.int32),
        ("product<__half, float, 2>", torch.float16, torch.float32),
        ("product<__nv_bfloat16, float, 2>", torch.bfloat16, torch.float32),
    ],
)
def test_fragments_of_a_product(name: str, dtype: torch.dtype, out: torch.dtype) -> None:
    k = 32 if out == torch.int32 else 16
    low, high = (0, 256) if dtype == torch.uint8 else (-128, 128)
    a, b = random_integers(16, k, low=low, high=high), random_integers(8, k)
    found = torch.zeros(16, 8, dtype=out)
    stored_b = b.to(torch.int8).view(dtype) if out == torch.int32 else b.to(dtype)
    run(name, 32, a.to(dtype), stored_b, found)
    assert torch.equal(found.double(), a.double() @ b.double().T)


@pytest.mark.parametrize("bits", [8, 16])
def test_fragments_lie_where_tritons_compiler_puts_them(bits: int) -> None:
    """Each lane brings one element that is not 0, and the product shows where it was."""
    k = 256 // bits
    for operand, places in layouts.triton_fragments(bits).items():
        assert places == layouts.ptx_fragments(bits)[operand], operand
    dtype = torch.int8 if bits == 8 else torch.float16
    out = torch.int32 if bits == 8 else torch.float32
    given = torch.zeros(2, 32, 4, dtype=torch.int32)
    held = layouts.ptx_fragments(bits)
    a, b = random_integers(16, k, low=-8, high=8), random_integers(k, 8, low=-8, high=8)
    for operand, matrix, registers in (("a", a, 4), ("b", b, 2)):
        words = torch.zeros(32, registers, 32 // bits, dtype=dtype)
        for place, at in held[operand].items():
            words[place] = matrix[at]
        given[0 if operand == "a" else 1, :, :registers] = words.view(torch.int32)[:, :, 0]
    found = torch.zeros(32, 4, dtype=out)
    run(
        "from_registers<" + ("signed char, int>" if bits == 8 else "__half, float>"),
        32,
        given,
        found,
    )
    expected = a.double() @ b.double()
    assert all(found[lane, r] == expected[at] for (lane, r, _), at in held["d"].items())


def test_matrices_are_loaded_as_they_lie_and_transposed() -> None:
    rows = torch.arange(256, dtype=torch.int16).view(4, 8, 8)
    out = torch.zeros(2, 32, 4, dtype=torch.int32)
    run("matrices", 32, rows, out)
    pairs = out.view(torch.int16).view(2, 32, 4, 2).permute(0, 2, 1, 3).reshape(2, 4, 8, 8)
    assert torch.equal(pairs[0], rows)
    assert torch.equal(pairs[1], rows.transpose(1, 2))


@pytest.mark.parametrize(
    ("name", "dtype"), [("__half", torch.float16), ("__nv_bfloat16", torch.bfloat16)]
)
def test_conversions_round_as_torch_rounds(name: str, dtype: torch.dtype) -> None:
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(dtype).float()
    between = torch.nextafter(every, torch.tensor(3e38)) * 1.0001
    special = torch.tensor([65519.0, 65520.0, 1e-8, 6e-8, -3e-8, 3.4e38, -0.0, 1e-40])
    numbers = torch.cat([every, between, special])
    pairs = torch.zeros(len(numbers) // 2, dtype=torch.int32)
    out = torch.zeros_like(numbers)
    run(f"converted<{name}>", 64, numbers, pairs, out, len(numbers))
    assert torch.equal(out.nan_to_num(12345.0), numbers.to(dtype).float().nan_to_num(12345.0))
    numeric = ~numbers.isnan()
    assert torch.equal(pairs.view(dtype)[numeric], numbers.to(dtype)[numeric])


def test_arguments_arrive_whatever_their_width() -> None:
    out = torch.zeros(5, dtype=torch.int64)
    run("mixed_arguments", 1, -7, np.int64(1 << 40), 2.5, None, 9, out)
    assert out.tolist() == [-7, 1 << 40, 5, 1, 9]


# --- what is wrong is found -----------------------------------------------------------------------


def answers(name: str, threads: int, *args: object, like: Tensor) -> list[Tensor]:
    """The kernel's answer under each schedule."""
    found = []
    for schedule in SCHEDULES:
        out = torch.zeros_like(like)
        run(name, threads, *args, out, schedule=schedule)
        found.append(out)
    return found


@fatal_in_tsan
def test_a_missing_barrier_shows_in_every_order() -> None:
    numbers = random_integers(64, low=0)
    for out in answers("reversed<false>", 64, numbers, like=numbers):
        assert not torch.equal(out, numbers.flip(0))


@fatal_in_tsan
def test_a_buffer_that_is_overwritten_too_early_shows_with_early_copies() -> None:
    numbers, out = random_integers(5, 64), torch.zeros(64, dtype=torch.int32)
    expected = numbers.sum(0, dtype=torch.int32).roll(32)
    wrong = []
    for schedule in SCHEDULES:
        run("pipelined<false>", 64, numbers, out, 5, schedule=schedule)
        if not torch.equal(out, expected):
            wrong.append(schedule)
    assert wrong
    assert not any(schedule.late_copies for schedule in wrong)


@fatal_in_tsan
def test_a_wrong_wait_count_shows_with_late_copies() -> None:
    numbers = random_integers(32)
    wrong = {
        schedule.late_copies
        for schedule, out in zip(
            SCHEDULES, answers("copied<1>", 32, numbers, like=numbers), strict=True
        )
        if not torch.equal(out, numbers.flip(0))
    }
    assert wrong == {True}
    for out in answers("copied<0>", 32, numbers, like=numbers):
        assert torch.equal(out, numbers.flip(0))


@fatal_in_tsan
@every_schedule
def test_barriers_that_not_all_reach_are_reported_with_kernel_and_line(schedule: Schedule) -> None:
    out = torch.zeros(64, dtype=torch.int32)
    with finding(r"divergent barrier.*kernel divergent_barrier.*emulator\.cu:\d+"):
        run("divergent_barrier", 64, out, schedule=schedule)
    with finding(r"(have ended before it|deadlock).*"):
        run("barrier_after_exit", 64, out, schedule=schedule)
    with finding(r"deadlock in kernel half_a_shuffle(.|\n)*__shfl_xor_sync.*emulator\.cu:\d+"):
        run("half_a_shuffle", 32, out, schedule=schedule)


@pytest.mark.skipif(bool(SANITIZER), reason="a sanitizer ends the process there")
def test_a_write_beside_a_shared_array_is_reported() -> None:
    with finding("write beside the shared array numbers"):
        run("beside_shared", 64, torch.zeros(64, dtype=torch.int32))


def test_uninitialised_shared_memory_is_poison() -> None:
    out = torch.zeros(64, dtype=torch.int32)
    run("uninitialised", 64, out)
    assert out[63] == -1


def test_a_launch_that_no_gpu_takes_is_refused() -> None:
    with finding("no GPU launches .*2048"):
        run("beside_shared", 2048, torch.zeros(64, dtype=torch.int32))


def test_arguments_of_other_widths_are_refused() -> None:
    numbers = random_integers(64)
    with finding("fewer arguments"):
        run("reversed<true>", 64, numbers, numbers, 3)
    with finding("more arguments"):
        run("reversed<true>", 64, numbers)


def test_a_kernel_that_does_not_compile_shows_the_compilers_words() -> None:
    with finding(r"no_such_kernel.*\n(.|\n)*error"):
        run("no_such_kernel", 64)


# --- what takes a sanitizer to find ---------------------------------------------------------------

_SCRIPT = """
import sys, torch
from tests.kernels.cuda.test_emulator import run
run(sys.argv[1], int(sys.argv[2]), torch.zeros(64, dtype=torch.int32), *map(int, sys.argv[3:]))
print("no finding")
"""


def sanitized_run(sanitizer: str, *arguments: str) -> str:
    """What a process prints that launches a kernel on 64 zeros under the sanitizer."""
    program, variables = sanitized.command(sanitizer, ["-c", _SCRIPT, *arguments])
    done = subprocess.run(
        program, env=variables, cwd=emulation.ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.skipif(bool(SANITIZER), reason="starts processes of its own")
@pytest.mark.parametrize(
    ("sanitizer", "arguments", "finding"),
    [
        ("address", ("beside_global", "64", "64"), "heap-buffer-overflow"),
        ("address", ("beside_shared", "64"), "use-after-poison"),
        ("thread", ("counted<false>", "64"), "data race"),
        ("thread", ("between_lanes", "64"), "data race"),
        ("address", ("beside_global", "64", "63"), "no finding"),
        ("thread", ("counted<true>", "64"), "no finding"),
        ("thread", ("named_barriers", "64"), "no finding"),
    ],
)
def test_a_sanitizer_finds_it(sanitizer: str, arguments: tuple[str, ...], finding: str) -> None:
    said = sanitized_run(sanitizer, *arguments)
    assert finding in said, said[-3000:]
