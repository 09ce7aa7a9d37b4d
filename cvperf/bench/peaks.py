"""Measures a machine's ceilings: arithmetic rates and copy bandwidth, as rows of the suite "peaks".

``cvperf.bench.roofline.Ceilings.from_rows`` makes a roofline of the rows.

On a CPU the native module does the work (kernels/cpu/peaks.cpp), with the instruction set and the
threads in use now. On a GPU torch does: matrix products large enough to fill it, and copies.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from cvperf import _C
from cvperf.bench import cuda_clock
from cvperf.bench.contender import Contender
from cvperf.bench.processors import caches, placed, spread
from cvperf.bench.results import OURS, Measurement
from cvperf.bench.roofline import BYTES, OPERATIONS
from cvperf.bench.timing import Clock, Plan, Sampler, Timing
from cvperf.bench.timing import measure as time_contenders

PLAN = Plan(seconds=0.45, sample_s=0.001, min_samples=200, max_samples=200)
"""Many short samples, and no probe stops early: on a busy machine each meets quiet moments."""

_MIB = 1 << 20
_ROUNDS = 2000  # of arithmetic a call: about 1 ms, of which starting the threads is 1 %
_COPIED = 64 * _MIB  # read and written by each thread a call, at least
_FAST = 5  # per cent
_BLOCK = 512  # bytes that peak_copy copies in one go
_DTYPES = {
    "float32": _C.DType.f32,
    "float64": _C.DType.f64,
    "bfloat16": _C.DType.bf16,
    "float16": _C.DType.f16,
    "int8": _C.DType.i8,
}


@dataclass(frozen=True)
class Probe:
    """Work of known size that one resource of the machine limits."""

    op: str
    """``"fma_float32"``, ``"copy_l2"``, ..."""
    case: str
    run: Callable[[], Any]
    """Does the work once."""
    flop: int = 0
    bytes: int = 0
    """Read and written; a probe counts flop or bytes."""
    dtype: str = "n/a"
    shape: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    level: str = ""
    capacity: int = 0
    """Bytes that the level holds."""


class StraightClock:
    """Wall time, every sample once: disturbed ones are left to the percentile."""

    def sampler(self, run: Callable[[], Any]) -> Sampler:
        def sample(calls: int) -> float:
            start = time.perf_counter()
            for _ in range(calls):
                run()
            return (time.perf_counter() - start) / calls

        return sample


def measure(
    device: str = "cpu",
    tick: Callable[[], None] = lambda: None,
    environment: Mapping[str, str] | None = None,
    command: str = "",
) -> list[Measurement]:
    """Every ceiling of a device, one row each, in about 4 seconds.

    Args:
        device: ``"cpu"``: with ``torch.get_num_threads()`` threads; or ``"cuda"``.
        tick: called after each sample, for a progress bar.
        environment: what the rows record, from ``cvperf.bench.machine.record``.
        command: what repeats the rows.

    Raises:
        ValueError: another device.
    """
    if device == "cuda":
        clock = cuda_clock.CudaClock()
        return rows(list(cuda_probes()), device, clock, tick, environment, command)
    if device != "cpu":
        raise ValueError(f"device must be 'cpu' or 'cuda', got {device!r}")
    processors = spread(torch.get_num_threads())
    with placed(processors):
        probes = list(cpu_probes(processors))
        return rows(probes, device, StraightClock(), tick, environment, command)


def rows(
    probes: Sequence[Probe],
    device: str,
    clock: Clock,
    tick: Callable[[], None] = lambda: None,
    environment: Mapping[str, str] | None = None,
    command: str = "",
) -> list[Measurement]:
    """Time the probes in turns and write each as a row."""
    timings = time_contenders([Contender(probe.run) for probe in probes], PLAN, clock, tick=tick)
    return [
        _row(probe, timing, device, environment or {}, command)
        for probe, timing in zip(probes, timings, strict=True)
    ]


def _row(
    probe: Probe, timing: Timing, device: str, environment: Mapping[str, str], command: str
) -> Measurement:
    # A ceiling is what the machine can do, and whatever else ran meanwhile only takes away from it:
    # the fast samples count. The fastest one of all may owe its place to the clock.
    fast_ms = timing.percentile(_FAST)
    detail: dict[str, Any] = {
        "rate": (probe.flop or probe.bytes) / (fast_ms * 1e-3),
        "unit": OPERATIONS if probe.flop else BYTES,
    }
    if probe.level:
        detail |= {"level": probe.level, "capacity": probe.capacity}
    return Measurement(
        suite="peaks",
        op=probe.op,
        case=probe.case,
        contender=OURS,
        status="ok",
        device=device,
        dtype=probe.dtype,
        layout="n/a",
        shape=probe.shape,
        version=f"cvperf {version('cvperf')}",
        note=probe.note,
        median_ms=timing.median,
        p20_ms=timing.percentile(20),
        p80_ms=timing.percentile(80),
        n=len(timing.samples_ms),
        samples_ms=timing.samples_ms,
        flop=probe.flop,
        bytes=probe.bytes,
        size=float(probe.flop or probe.bytes),
        detail=detail,
        command=command,
        environment=environment,
    )


# --- CPU ------------------------------------------------------------------------------------------


def cpu_probes(processors: Sequence[int]) -> Iterator[Probe]:
    """The probes of this machine with the instruction set in use, one thread a processor."""
    threads = len(processors)
    for name, dtype in _DTYPES.items():
        operations, _, instruction = _C.peak_arithmetic(dtype, _ROUNDS, threads)
        yield Probe(
            op="dot_int8" if name == "int8" else f"fma_{name}",
            case=_threads(threads),
            run=partial(_C.peak_arithmetic, dtype, _ROUNDS, threads),
            flop=int(operations),
            dtype=name,
            shape={"threads": threads},
            note=f"{instruction} ({_C.isa()})",
        )
    found = caches(processors)
    assumed = "" if found else "; the system does not tell cache sizes: these are assumed"
    found = found or {"L2": threads * _MIB, "L3": 32 * _MIB}
    above = 0
    for name, capacity in found.items():
        # A part of the level, which a call may be lucky to have to itself: a neighbour on the same
        # chip takes its share of an L3. But more than the level above holds, or that is measured.
        buffers = max(capacity // 4, min(2 * above, capacity // 2))
        yield _cpu_copy(name, capacity, buffers, threads, assumed)
        above = capacity
    # Four times the last cache, so that next to nothing of a round is found in it by the next.
    whole = 4 * list(found.values())[-1]
    yield _cpu_copy("memory", _physical_memory(), whole, threads, assumed)


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _cpu_copy(name: str, capacity: int, buffers: int, threads: int, assumed: str) -> Probe:
    """A copy between two buffers of half of ``buffers`` bytes each, a slice for every thread."""
    count = max(buffers // 2 // _BLOCK, threads) * _BLOCK
    source, destination = _buffer(count, 1), _buffer(count, 2)
    streaming = name == "memory"
    rounds = max(1, _COPIED * threads // (2 * count))

    def run() -> None:
        pointers = source.data_ptr(), destination.data_ptr()
        _C.peak_copy(*pointers, count, rounds, streaming, threads)

    how = "streaming stores, which read nothing first" if streaming else "ordinary stores"
    return Probe(
        op=f"copy_{name.lower()}",
        case=_threads(threads),
        run=run,
        bytes=2 * count * rounds,
        shape={"threads": threads},
        note=f"source and destination of {count / _MIB:.3g} MiB each, {how}{assumed}",
        level=name,
        capacity=capacity,
    )


def _buffer(count: int, value: int) -> Tensor:
    """``count`` bytes of ``value``, on huge pages where the system has them.

    Small pages would measure the translation of addresses. The value is not 0: some
    processors do not write zeros over zeros.
    """
    block = mmap.mmap(-1, count)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(block, dtype=torch.uint8).fill_(value)


def _physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


# --- CUDA: not yet run on hardware ----------------------------------------------------------------

_GPU = "cuda"
_SIDE = 8192  # of the matrices: 1.1e12 operations a product
_BEYOND_CACHES = 1 << 30  # bytes


def cuda_probes() -> Iterator[Probe]:
    """The probes of the first GPU; together they hold less than 6 GiB."""
    precisions = {"bfloat16": "highest", "float16": "highest", "float32": "highest", "tf32": "high"}
    for name, precision in precisions.items():
        yield _cuda_product(name, precision)
    yield _cuda_int8_product()
    gpu = torch.cuda.get_device_properties(0)
    yield _cuda_copy("L2", gpu.L2_cache_size, gpu.L2_cache_size // 4)
    yield _cuda_copy("memory", gpu.total_memory, _BEYOND_CACHES)


def _cuda_product(name: str, precision: str) -> Probe:
    dtype = torch.float32 if name == "tf32" else getattr(torch, name)
    a, b = (torch.randn(_SIDE, _SIDE, device=_GPU).to(dtype) for _ in range(2))
    out = torch.empty(_SIDE, _SIDE, device=_GPU, dtype=dtype)

    def run() -> None:
        with _float32_precision(precision):
            torch.mm(a, b, out=out)

    units = "without tensor cores" if name == "float32" else "on tensor cores"
    return _product_probe(name, run, f"torch.mm, which is cuBLAS, {units}")


def _cuda_int8_product() -> Probe:
    a, b = (
        torch.randint(-128, 128, (_SIDE, _SIDE), device=_GPU, dtype=torch.int8) for _ in range(2)
    )
    out = torch.empty(_SIDE, _SIDE, device=_GPU, dtype=torch.int32)
    # cuBLASLt is fastest, and on some GPUs works only, with the second matrix transposed.
    run = partial(torch._int_mm, a, b.t(), out=out)
    return _product_probe("int8", run, "torch._int_mm, which is cuBLASLt, on tensor cores")


def _product_probe(name: str, run: Callable[[], Any], note: str) -> Probe:
    return Probe(
        op=f"matmul_{name}",
        case=f"{_SIDE} cubed",
        run=run,
        flop=2 * _SIDE**3,
        dtype=name,
        shape={"m": _SIDE, "n": _SIDE, "k": _SIDE},
        note=note,
    )


def _cuda_copy(name: str, capacity: int, count: int) -> Probe:
    """``count`` bytes read and as many written."""
    source = torch.randn(count // 4, device=_GPU)
    destination = torch.empty_like(source)
    in_memory = name == "memory"
    # A copy this small would be a transfer of the driver's, with more time around it than in it; a
    # kernel that reads and writes the same bytes can be replayed from a graph back to back.
    run = (
        partial(destination.copy_, source)
        if in_memory
        else partial(torch.neg, source, out=destination)
    )
    how = "copy_" if in_memory else "torch.neg, which reads and writes as a copy does,"
    return Probe(
        op=f"copy_{name.lower()}",
        case=f"{count / _MIB:.4g} MiB",
        run=run,
        bytes=2 * source.nbytes,
        shape={"bytes": source.nbytes},
        note=f"{how} between buffers of {count / _MIB:.4g} MiB",
        level=name,
        capacity=capacity,
    )


@contextmanager
def _float32_precision(precision: str) -> Iterator[None]:
    """Whether float32 products may be made in TF32 ("high") or not ("highest")."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
