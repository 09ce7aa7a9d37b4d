"""What the emulator has of sm_90a: mbarriers, tensor copies, wgmma; and what it finds in them."""

from __future__ import annotations

import itertools
import re
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cvperf.backends.cuda import tensor_map
from cvperf.backends.cuda.launch import Kernel, launch
from cvperf.errors import ArgumentError
from tests.kernels.cuda import emulation, sanitized
from tests.kernels.cuda.emulation import SANITIZER, SCHEDULES, EmulationError, Schedule
from tests.kernels.cuda.harness import ON_GPU

pytestmark = pytest.mark.skipif(ON_GPU, reason="tests of the emulator")
FILE = str(Path(__file__).parent / "hopper.cu")
FAULTS = re.search(r"enum Fault {(.*?)}", Path(FILE).read_text(), re.DOTALL)[1].split(",")
NUMBER = {name.strip(): number for number, name in enumerate(FAULTS)}
faulty = pytest.mark.skipif(
    bool(SANITIZER), reason="a sanitizer ends the process at a race, or at a thread that never ends"
)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=str)


def run(
    name: str,
    threads: int,
    *args: object,
    shared: int = 0,
    fault: str = "NONE",
    schedule: Schedule = SCHEDULES[0],
) -> None:
    with emulation.emulating(schedule, 90):
        launch(Kernel(FILE, name), (1,), threads, *args, NUMBER[fault], shared_bytes=shared)


def error_of(name: str, *args: object, **keywords) -> str:
    with pytest.raises(EmulationError) as caught:
        run(name, *args, **keywords)
    return str(caught.value)


def swizzled(tile: Tensor, span: int) -> Tensor:
    """Rows of ``span`` bytes as they lie in shared memory."""
    if span == tensor_map.NO_SWIZZLE:
        return tile
    chunks = span // 16
    out = torch.empty_like(tile).view(-1, chunks, 16)
    for row, chunk in itertools.product(range(len(tile)), range(chunks)):
        out[row, chunk ^ (row * span // 128 % chunks)] = tile.view(-1, chunks, 16)[row, chunk]
    return out.view_as(tile)


# --- tensor copies --------------------------------------------------------------------------------


def bytes_of(*shape: int) -> Tensor:
    return torch.randint(1, 256, shape, dtype=torch.uint8)


@pytest.mark.parametrize("span", [16, 32, 64, 128])
def test_a_tile_lies_swizzled_with_zeros_where_the_tensor_ends(span: int) -> None:
    tensor = bytes_of(21, 160)[:, :150]
    dims, strides, box = (150, 21), (160,), (max(span, 32), 16)
    image = tensor_map.tiled(tensor, dims, strides, box, span)
    for c0, c1 in ((0, 0), (32, 3), (128, 16), (-16, -5)):
        at = torch.tensor([c0, c1], dtype=torch.int32)
        out = torch.zeros(16, box[0], dtype=torch.uint8)
        run("tile", 64, image, 2, at, out, out.numel(), shared=out.numel())
        around = torch.zeros(21 + 64, 160 + 512, dtype=torch.uint8)
        around[32:53, 256:406] = tensor
        expected = around[32 + c1 : 48 + c1, 256 + c0 : 256 + c0 + box[0]].contiguous()
        assert torch.equal(out, swizzled(expected, span)), f"tile at {c0}, {c1}"


@every_schedule
@pytest.mark.parametrize("rank", [3, 4, 5])
def test_tiles_of_more_dimensions(rank: int, schedule: Schedule) -> None:
    shape, box = (2, 3, 3, 4, 16)[-rank:], (2, 2, 1, 3, 16)[-rank:]
    tensor, first = bytes_of(*shape), (0, 1, 2, 2, 0)[-rank:]
    strides = tuple(tensor.stride()[:-1][::-1])
    image = tensor_map.tiled(tensor, shape[::-1], strides, box[::-1])
    out = torch.zeros(box, dtype=torch.uint8)
    at = torch.tensor(first[::-1], dtype=torch.int32)
    run("tile", 64, image, rank, at, out, out.numel(), shared=1024, schedule=schedule)
    expected = torch.zeros(box, dtype=torch.uint8)
    window = tensor[tuple(slice(a, a + b) for a, b in zip(first, box, strict=True))]
    expected[tuple(slice(0, size) for size in window.shape)] = window
    assert torch.equal(out, expected)


@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (2, 3)])
@pytest.mark.parametrize(("padding", "dilation"), [((0, 0), (1, 1)), ((1, 2), (2, 1))])
def test_pixels_are_those_of_an_unfolded_image(stride, padding, dilation) -> None:
    n, c, h, w, window = 2, 24, 7, 9, (2, 3)
    image = torch.rand(n, c, h, w).half().to(memory_format=torch.channels_last)
    unfolded = torch.nn.functional.unfold(
        image.float(), window, dilation=dilation, padding=padding, stride=stride
    )
    rows = unfolded.view(n, c, *window, -1).permute(2, 3, 0, 4, 1).reshape(*window, -1, c).half()
    across = (w + 2 * padding[1] - dilation[1] * (window[1] - 1) - 1) // stride[1] + 1
    down = rows.shape[2] // n // across
    count = 16
    described = tensor_map.im2col(image, window, stride, padding, dilation, 16, count, 32)
    for first, tap, channel in ((0, (0, 0), 0), (5, (1, 2), 0), (17, (0, 1), 16)):
        where = first % across, first // across % down, first // across // down
        at = torch.tensor(
            [
                channel,
                where[0] * stride[1] - padding[1],
                where[1] * stride[0] - padding[0],
                where[2],
                tap[1] * dilation[1],
                tap[0] * dilation[0],
            ],
            dtype=torch.int32,
        )
        out = torch.zeros(count, 32, dtype=torch.uint8)
        run("pixels", 64, described, at, out, out.numel(), shared=1024)
        expected = torch.zeros(count, 16, dtype=torch.float16)
        part = rows[tap[0], tap[1], first : first + count, channel : channel + 16]
        expected[: part.shape[0], : part.shape[1]] = part
        assert torch.equal(out, swizzled(expected.view(torch.uint8), 32)), f"{first} {tap}"


@every_schedule
def test_a_tile_is_stored_up_to_the_tensors_end(schedule: Schedule) -> None:
    tensor, tile = torch.zeros(5, 48, dtype=torch.uint8), bytes_of(4, 32)
    described = tensor_map.tiled(tensor, (40, 5), (48,), (32, 4), 32)
    run(
        *("stored", 64, described, swizzled(tile, 32), 128, 16, 3),
        shared=1024,
        schedule=schedule,
    )
    expected = torch.zeros_like(tensor)
    expected[3:5, 16:40] = tile[:2, :24]
    assert torch.equal(tensor, expected)


# --- a pipeline -----------------------------------------------------------------------------------


def piped(fault: str, schedule: Schedule, steps: int = 7) -> tuple[Tensor, Tensor]:
    numbers = torch.randint(-99, 99, (steps, 32), dtype=torch.int32)
    described = tensor_map.tiled(numbers, (32, steps), (128,), (32, 1))
    out = torch.zeros(64, dtype=torch.int32)
    run("pipeline", 96, described, out, steps, fault=fault, schedule=schedule)
    weights = torch.arange(1, steps + 1, dtype=torch.int32)
    return out, (numbers * weights[:, None]).sum(0, dtype=torch.int32).repeat(2)


@every_schedule
def test_a_pipeline_sums_what_it_loads(schedule: Schedule) -> None:
    found, expected = piped("NONE", schedule)
    assert torch.equal(found, expected)


def outcomes(fault: str) -> dict[bool, list[str]]:
    """By late copies: what each schedule says of the pipeline, "" if it answers right."""
    said: dict[bool, list[str]] = {False: [], True: []}
    for schedule in SCHEDULES:
        try:
            found, expected = piped(fault, schedule)
            said[schedule.late_copies].append("" if torch.equal(found, expected) else "wrong")
        except EmulationError as error:
            said[schedule.late_copies].append(str(error))
    return said


@faulty
def test_a_wrong_parity_is_found_under_every_schedule() -> None:
    assert all(said for by_time in outcomes("PARITY").values() for said in by_time)


@faulty
def test_a_stage_that_is_refilled_too_early_is_found_with_early_copies() -> None:
    assert all(outcomes("REFILL")[False])


@faulty
def test_bytes_that_are_miscounted_are_a_deadlock_that_says_so() -> None:
    for said in itertools.chain(*outcomes("BYTES").values()):
        assert re.search(r"deadlock in kernel pipeline(.|\n)*barrier_wait", said)
        assert re.search(r"the barrier at byte \d+ .* lacks \d of 1 arrivals and -\d+ bytes", said)


_SCRIPT = """
import sys, torch
from tests.kernels.cuda.test_hopper_emulator import SCHEDULES, piped
found, expected = piped(sys.argv[1], SCHEDULES[-1])
print("right" if torch.equal(found, expected) else "wrong")
"""


@pytest.mark.skipif(bool(SANITIZER), reason="starts processes of its own")
@pytest.mark.parametrize(("fault", "finding"), [("NONE", "right"), ("REFILL", "data race")])
def test_a_stage_that_is_refilled_too_early_is_a_race(fault: str, finding: str) -> None:
    """Whatever the schedule: late copies would leave the answer right."""
    program, variables = sanitized.command("thread", ["-c", _SCRIPT, fault])
    done = subprocess.run(
        program, env=variables, cwd=emulation.ROOT, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert finding in said, said[-3000:]
    assert ("data race" in said) == (finding == "data race")


# --- other faults of copies -----------------------------------------------------------------------


def tile_error(fault: str, schedule: Schedule = SCHEDULES[0]) -> str:
    described = tensor_map.tiled(bytes_of(16, 32), (32, 16), (32,), (32, 16), 32)
    at, out = torch.zeros(2, dtype=torch.int32), torch.zeros(512, dtype=torch.uint8)
    arguments = (64, described, 2, at, out, 512)
    return error_of("tile", *arguments, shared=1024, fault=fault, schedule=schedule)


@faulty
@every_schedule
def test_faults_around_a_load_are_reported(schedule: Schedule) -> None:
    assert "lacks 0 of 1 arrivals and 16 bytes" in tile_error("BYTES", schedule)
    assert "made with no fence_barrier_init" in tile_error("UNFENCED_BARRIER", schedule)
    if schedule.late_copies:
        assert "the block ended and had not waited" in tile_error("LEFT", schedule)


@faulty
@every_schedule
def test_faults_around_a_store_are_reported(schedule: Schedule) -> None:
    tensor = torch.zeros(4, 32, dtype=torch.uint8)
    described = tensor_map.tiled(tensor, (32, 4), (32,), (32, 4), 32)
    arguments = (64, described, bytes_of(4, 32), 128, 0, 0)

    def said(fault: str) -> str:
        return error_of("stored", *arguments, shared=1024, fault=fault, schedule=schedule)

    assert re.search(r"no fence_async after it.*hopper\.cu:\d+", said("UNFENCED_STORES"))
    assert "had not waited for its bulk stores" in said("LEFT")
    if schedule.late_copies:
        assert "no fence_async after it" in said("REFILL")


@faulty
def test_a_map_of_another_kind_is_refused() -> None:
    out, at = torch.zeros(512, dtype=torch.uint8), torch.zeros(6, dtype=torch.int32)
    flat = tensor_map.tiled(bytes_of(16, 32), (32, 16), (32,), (32, 16))

    def said(described: bytes, rank: int, shared: int = 512) -> str:
        return error_of("tile", 64, described, rank, at, out, 512, shared=shared)

    assert "the map is of 2 dimensions" in said(flat, 3)
    assert "this is no tensor map" in said(bytes(128), 2)
    assert "outside the block's shared memory" in said(flat, 2, shared=256)
    assert "the map is of 2" in error_of("pixels", 64, flat, at, out, 512, shared=512)


# --- tensor maps ----------------------------------------------------------------------------------


def test_what_no_tensor_map_describes_is_refused_with_the_rule() -> None:
    tensor = bytes_of(64, 320)
    for arguments, rule in (
        (((320, 64), (321,), (32, 16), 32), "multiples of 16 bytes"),
        (((320, 64), (320,), (32, 257), 32), "1 to 256 elements"),
        (((320, 64), (320,), (64, 16), 32), "rows are multiples of 16 bytes"),
        (((320, 64), (320,), (24, 16), 16), "rows are multiples of 16 bytes"),
        (((320,), (), (32,), 32), "2 to 5 dimensions"),
        (((0, 64), (320,), (32, 16), 32), "sizes are 1 to"),
    ):
        with pytest.raises(ArgumentError, match=rule):
            tensor_map.tiled(tensor, *arguments)
    with pytest.raises(ArgumentError, match="multiples of 16 bytes"):
        tensor_map.tiled(tensor[:, 1:], (319, 64), (320,), (32, 16), 32)
    image = torch.zeros(1, 16, 4, 4).half().to(memory_format=torch.channels_last)
    with pytest.raises(ArgumentError, match="windows are 1 to 8 pixels apart"):
        tensor_map.im2col(image, (1, 1), (9, 1), (0, 0), (1, 1), 16, 8, 32)
    with pytest.raises(ArgumentError, match="no window fits"):
        tensor_map.im2col(image, (5, 1), (1, 1), (0, 0), (1, 1), 16, 8, 32)
    with pytest.raises(ArgumentError, match="channels last"):
        tensor_map.im2col(image.contiguous(), (1, 1), (1, 1), (0, 0), (1, 1), 16, 8, 32)


# --- wgmma ----------------------------------------------------------------------------------------

TYPES = {
    torch.int8: ("signed char", "int"),
    torch.uint8: ("unsigned char", "int"),
    torch.float16: ("__half", "float"),
    torch.bfloat16: ("__nv_bfloat16", "float"),
}


def multiplied(
    dtype: torch.dtype, n: int, span: int, fault: str = "NONE", schedule: Schedule = SCHEDULES[0]
) -> tuple[Tensor, Tensor]:
    a_type, sum_type = TYPES[dtype]
    size, bytes_k = dtype.itemsize, max(span, 64)
    k = bytes_k // size
    low, high = (0, 256) if dtype == torch.uint8 else (-128, 128)
    a = torch.randint(low, high, (64, k)).to(dtype)
    b = torch.randint(-128, 128, (n, k)).to(torch.int8 if size == 1 else dtype)
    maps = [
        tensor_map.tiled(one, (k, len(one)), (bytes_k,), (span // size, len(one)), span)
        for one in (a, b)
    ]
    out = torch.zeros(64, n, dtype=torch.int32 if size == 1 else torch.float32)
    name = f"product<{a_type}, {sum_type}, {n}, {span}>"
    run(name, 128, *maps, out, shared=(64 + n) * bytes_k, fault=fault, schedule=schedule)
    taken = 64 // size
    return out.double(), a[:, :taken].double() @ b[:, :taken].double().T


@pytest.mark.parametrize(
    ("dtype", "span"),
    [*((torch.int8, span) for span in (16, 32, 64, 128)), *((dtype, 128) for dtype in TYPES)],
)
def test_products_of_every_type_and_swizzle(dtype: torch.dtype, span: int) -> None:
    found, expected = multiplied(dtype, 64, span)
    assert torch.equal(found, expected)


@every_schedule
@pytest.mark.parametrize("n", [128, 256])
def test_products_under_every_schedule(n: int, schedule: Schedule) -> None:
    found, expected = multiplied(torch.int8, n, 128, schedule=schedule)
    assert torch.equal(found, expected)


@faulty
def test_sums_that_are_not_waited_for_show_when_they_are_late() -> None:
    for schedule in SCHEDULES:
        found, expected = multiplied(torch.int8, 64, 128, "UNDONE", schedule)
        assert torch.equal(found, expected) != schedule.late_copies


@faulty
@every_schedule
def test_faults_around_a_product_are_reported(schedule: Schedule) -> None:
    def said(fault: str) -> str:
        with pytest.raises(EmulationError) as caught:
            multiplied(torch.int8, 64, 128, fault, schedule)
        return str(caught.value)

    assert "no wgmma_fence" in said("UNFENCED_SUMS")
    assert "had not waited for its wgmma" in said("LEFT")
    assert re.search(r"deadlock in kernel product(.|\n)*waits at wgmma", said("HALF"))
    assert "the address is not in the first row of the pattern" in said("OFFSET")


@faulty
def test_a_product_of_stores_that_no_fence_follows_is_reported() -> None:
    out = torch.zeros(128, dtype=torch.int32)
    run("stored_product", 128, out, shared=4096)
    assert out.unique().tolist() == [32]
    said = error_of("stored_product", 128, out, shared=4096, fault="UNFENCED_STORES")
    assert "wgmma, factor a: reads what was stored to shared memory with no fence_async" in said


def test_sums_and_swizzles_lie_where_triton_says() -> None:
    """Triton's own layouts, as the compiler uses them, are the oracle."""
    layouts = pytest.importorskip("tests.kernels.cuda.layouts")
    for n in (64, 128, 256):
        assert layouts.triton_warpgroup(n) == layouts.ptx_warpgroup(n)
    for span in (32, 64, 128):
        rows = torch.arange(32 * span, dtype=torch.int32).view(32, span)
        # As bytes, since that is what a swizzle moves: low and high halves of the number.
        low, high = (swizzled((rows >> 8 * i & 255).to(torch.uint8), span).int() for i in (0, 1))
        assert layouts.triton_swizzled(32, span) == (low + 256 * high).flatten().tolist()
