"""The measured ceilings are those of a processor, and not of a loop that was optimised away."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cvperf import _C
from cvperf.bench import peaks, processors, results
from cvperf.bench.peaks import Probe
from cvperf.bench.roofline import Ceilings
from cvperf.bench.timing import Sampler

ISAS = _C.available_isas()
DTYPES = ["float32", "float64", "bfloat16", "float16", "int8"]


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set of this machine in turn."""
    before = _C.isa()
    _C.select_isa(request.param)
    yield request.param
    _C.select_isa(before)


class SteadyClock:
    """Every call takes the time that it says itself."""

    def sampler(self, run: Callable[[], Any]) -> Sampler:
        return lambda calls: run()


def best_rates(threads: int) -> dict[str, float]:
    """op -> operations or bytes a second, by the fastest of a few samples: the least disturbed."""
    chosen = processors.spread(threads)
    with processors.placed(chosen):
        probes = list(peaks.cpu_probes(chosen))
        samplers = [peaks.StraightClock().sampler(probe.run) for probe in probes]
        fastest = [float("inf")] * len(probes)
        for _ in range(25):  # in turns, so that a busy moment disturbs one sample of each
            for i, sample in enumerate(samplers):
                fastest[i] = min(fastest[i], sample(1))
    return {
        probe.op: (probe.flop or probe.bytes) / seconds
        for probe, seconds in zip(probes, fastest, strict=True)
    }


@pytest.fixture(scope="module")
def rates() -> dict[tuple[str, int], dict[str, float]]:
    """The rates by (instruction set, threads), measured once for the tests below."""
    before = _C.isa()
    found = {}
    for name in {ISAS[0], ISAS[-1]}:
        _C.select_isa(name)
        for threads in {1, min(2, len(processors.allowed()))}:
            found[name, threads] = best_rates(threads)
    _C.select_isa(before)
    return found


# --- the native loops


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_every_counted_operation_leaves_its_trace_in_the_checksum(
    dtype: str, threads: int, isa: str
) -> None:
    rounds = 7
    operations, checksum, instruction = _C.peak_arithmetic(peaks._DTYPES[dtype], rounds, threads)
    if dtype == "int8":  # a step adds 1 to each of its int32 lanes, by 2 or 4 products
        of_bytes = instruction.startswith(("vpdpbusd", "vpmaddubsw"))
        products = 4 if of_bytes else 2
        assert operations == 2 * products * checksum, (isa, instruction)
        return
    # An even number of steps leaves each chain where it began: at 1 + chain / 16.
    chains_and_lanes = operations / (2 * rounds * 256 * threads)
    if instruction == "vdpbf16ps":
        chains_and_lanes /= 2  # it sums two products a lane
    mean = checksum / threads / chains_and_lanes
    assert mean in (1 + 11 / 32, 1 + 23 / 32), (isa, instruction, checksum, operations)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("blocks", [1, 3, 64])
def test_a_copy_copies_every_byte_and_none_beyond(
    blocks: int, threads: int, streaming: bool, isa: str
) -> None:
    count = 512 * blocks
    source = torch.randint(1, 255, (count + 64,), dtype=torch.uint8)
    destination = torch.zeros(count + 64, dtype=torch.uint8)
    _C.peak_copy(source.data_ptr(), destination.data_ptr(), count, 2, streaming, threads)
    assert torch.equal(destination[:count], source[:count]), isa
    assert not destination[count:].any(), isa


# --- what they measure


@pytest.mark.alone
def test_a_thread_makes_between_1_and_400_gflop_a_second(
    rates: dict[tuple[str, int], dict[str, float]],
) -> None:
    # 400 is two 512-bit multiply-adds a cycle at more than 6 GHz.
    for (isa, threads), found in rates.items():
        assert 1e9 < found["fma_float32"] / threads < 400e9, (isa, threads, found)


@pytest.mark.alone
def test_float64_runs_at_half_the_rate_of_float32(
    rates: dict[tuple[str, int], dict[str, float]],
) -> None:
    for (isa, threads), found in rates.items():
        ratio = found["fma_float64"] / found["fma_float32"]
        assert ratio == pytest.approx(0.5, rel=0.3), (isa, threads, ratio)


@pytest.mark.alone
@pytest.mark.skipif(len(ISAS) == 1, reason="this processor has one instruction set")
def test_wider_vectors_are_faster(rates: dict[tuple[str, int], dict[str, float]]) -> None:
    narrow, wide = rates[ISAS[0], 1], rates[ISAS[-1], 1]
    for op in ("fma_float32", "fma_float64", "fma_bfloat16", "fma_float16", "dot_int8"):
        assert wide[op] > 1.5 * narrow[op], (op, wide[op], narrow[op])


@pytest.mark.alone
def test_int8_products_are_faster_than_float32_where_one_instruction_makes_and_sums_four(
    rates: dict[tuple[str, int], dict[str, float]],
) -> None:
    # Without it they are widened to 16 bits. A step has twice the products of float32's, but some
    # processors (Zen 2) make half as many such steps, so that either may be a little faster.
    least = 2.0 if _dot_instruction(ISAS[-1]) == "vpdpbusd" else 0.7
    found = rates[ISAS[-1], 1]
    assert found["dot_int8"] > least * found["fma_float32"], found


def _dot_instruction(isa: str) -> str:
    before = _C.isa()
    _C.select_isa(isa)
    _, _, instruction = _C.peak_arithmetic(peaks._DTYPES["int8"], 1, 1)
    _C.select_isa(before)
    return instruction


@pytest.mark.alone
@pytest.mark.skipif(len(processors.allowed()) == 1, reason="this process has one processor")
def test_two_threads_are_faster_than_one(rates: dict[tuple[str, int], dict[str, float]]) -> None:
    one, two = rates[ISAS[-1], 1], rates[ISAS[-1], 2]
    assert two["fma_float32"] > 1.2 * one["fma_float32"], (one, two)
    assert two["copy_l2"] > 1.2 * one["copy_l2"], (one, two)


@pytest.mark.alone
def test_what_is_nearer_is_faster(rates: dict[tuple[str, int], dict[str, float]]) -> None:
    found = rates[ISAS[-1], 1]
    levels = [op for op in found if op.startswith("copy_")]
    assert levels[-1] == "copy_memory"
    # An ordinary store reads its line first, so three bytes move for the two that count; the stores
    # to memory are streamed. A shared L3 of many cores can be so far away that it shows.
    moved = {op: found[op] if op == "copy_memory" else 1.5 * found[op] for op in levels}
    for near, far in itertools.pairwise(levels):
        assert moved[near] > 0.8 * moved[far], (near, far, found)
    assert found["copy_l2"] > 1.3 * found["copy_memory"], found


# --- rows


def test_the_rate_is_the_work_over_the_time_of_the_fast_samples() -> None:
    steady = [
        Probe("fma_float32", "2 threads", lambda: 2e-3, flop=10**9, dtype="float32"),
        Probe("copy_l2", "2 threads", lambda: 4e-3, bytes=10**8, level="L2", capacity=10**6),
    ]
    compute, copy = peaks.rows(steady, "cpu", SteadyClock(), command="cvperf bench peaks")
    assert compute.detail == {"rate": pytest.approx(5e11), "unit": "flop/s"}
    assert (compute.flop, compute.bytes, compute.dtype) == (10**9, 0, "float32")
    assert compute.median_ms == compute.p20_ms == pytest.approx(2.0)
    assert copy.detail == {
        "rate": pytest.approx(2.5e10),
        "unit": "bytes/s",
        "level": "L2",
        "capacity": 10**6,
    }
    assert (copy.flop, copy.bytes) == (0, 10**8)
    assert copy.command == "cvperf bench peaks"


def test_a_disturbed_sample_does_not_lower_the_ceiling() -> None:
    seconds = itertools.cycle([1e-3, 3e-3, 3e-3])  # two of three samples take three times as long
    (row,) = peaks.rows(
        [Probe("fma_float32", "1 thread", lambda: next(seconds), flop=10**9)], "cpu", SteadyClock()
    )
    assert row.detail["rate"] == pytest.approx(1e12)
    assert row.median_ms == pytest.approx(3.0)


def test_a_measured_machine_survives_the_file_and_has_a_roofline(tmp_path: Path) -> None:
    ticks: list[None] = []
    rows = peaks.measure(tick=lambda: ticks.append(None), environment={"cpu": "this one"})
    with results.writer(tmp_path / "peaks.jsonl") as file:
        for row in rows:
            file.write(row)
    read = Ceilings.from_rows(results.read(tmp_path / "peaks.jsonl"))
    assert read == Ceilings.from_rows(rows)
    assert (read.device, read.threads) == ("cpu", torch.get_num_threads())
    assert set(read.flops) == set(DTYPES)
    assert read.levels[-1].name == "memory"
    assert [level.capacity for level in read.levels] == sorted(
        level.capacity for level in read.levels
    )
    assert len(ticks) == sum(row.n for row in rows)
    assert all(row.note and row.environment == {"cpu": "this one"} for row in rows)


def test_the_probes_of_a_gpu_count_their_work_and_make_a_roofline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The same calls on small tensors of the CPU: what they ask of torch, not how fast it is.
    gpu = SimpleNamespace(L2_cache_size=1 << 20, total_memory=80 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)
    monkeypatch.setattr(peaks, "_GPU", "cpu")
    monkeypatch.setattr(peaks, "_SIDE", 64)
    monkeypatch.setattr(peaks, "_BEYOND_CACHES", 1 << 21)
    probes = list(peaks.cuda_probes())
    for probe in probes:
        probe.run()
    assert [probe.op for probe in probes] == [
        *("matmul_bfloat16", "matmul_float16", "matmul_float32", "matmul_tf32", "matmul_int8"),
        *("copy_l2", "copy_memory"),
    ]
    assert {probe.flop for probe in probes[:5]} == {2 * 64**3}
    assert [probe.bytes for probe in probes[5:]] == [1 << 19, 1 << 22]
    timed = [dataclasses.replace(probe, run=lambda: 1e-3) for probe in probes]
    ceilings = Ceilings.from_rows(peaks.rows(timed, "cuda", SteadyClock()))
    assert (ceilings.device, ceilings.threads) == ("cuda", 0)
    assert ceilings.flops["tf32"] == pytest.approx(2 * 64**3 / 1e-3)
    assert [level.capacity for level in ceilings.levels] == [1 << 20, 80 << 30]
    assert torch.get_float32_matmul_precision() == "highest"


def test_another_device_is_refused() -> None:
    with pytest.raises(ValueError, match="device must be 'cpu' or 'cuda', got 'tpu'"):
        peaks.measure("tpu")


# --- processors


def a_system(root: Path, processors: dict[int, dict[str, str]]) -> Path:
    """A copy of what Linux tells of processors: file -> text for each."""
    for number, files in processors.items():
        for name, text in files.items():
            path = root / f"cpu{number}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
    return root


def cache(index: int, level: int, size: str, sharers: str, kind: str = "Unified") -> dict[str, str]:
    values = {"level": str(level), "size": size, "shared_cpu_list": sharers, "type": kind}
    return {f"cache/index{index}/{name}": text for name, text in values.items()}


def test_caches_are_counted_once_for_all_that_share_them(tmp_path: Path) -> None:
    def files(number: int) -> dict[str, str]:
        own = cache(0, 1, "32K", str(number), "Data") | cache(1, 2, "512K", str(number))
        return own | cache(2, 3, "32M", "0-1" if number < 2 else "2-3")

    system = a_system(tmp_path, {number: files(number) for number in range(4)})
    assert processors.caches([0], system) == {"L2": 512 << 10, "L3": 32 << 20}
    assert processors.caches([0, 1], system) == {"L2": 1 << 20, "L3": 32 << 20}
    assert processors.caches([0, 1, 2, 3], system) == {"L2": 2 << 20, "L3": 64 << 20}


def test_a_system_that_does_not_tell_its_caches_has_assumed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert processors.caches([0], tmp_path) == {}
    monkeypatch.setattr(peaks, "caches", lambda chosen: {})
    copies = [probe for probe in peaks.cpu_probes([0]) if probe.op.startswith("copy_")]
    assert [probe.level for probe in copies] == ["L2", "L3", "memory"]
    assert all("assumed" in probe.note for probe in copies)


def test_threads_get_a_core_each_before_they_share_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    siblings = {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}
    files = {n: {"topology/thread_siblings_list": text} for n, text in siblings.items()}
    system = a_system(tmp_path, files)
    monkeypatch.setattr(processors, "allowed", lambda: [0, 1, 2, 3])
    assert processors.spread(2, system) == [0, 2]
    assert processors.spread(4, system) == [0, 2, 1, 3]
    assert processors.spread(5, system) == [0, 2, 1, 3, 0]


def test_threads_roam_again_after_they_were_placed() -> None:
    before = processors.allowed()
    with processors.placed([before[-1]]):
        assert processors.allowed() == [before[-1]]
    assert processors.allowed() == before
