"""Runs shapes through contenders: checks every answer, then times those that are right."""

from __future__ import annotations

import math
import shlex
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from cvperf.bench import cuda_clock, energy, memory
from cvperf.bench.contender import Contender, Unsupported
from cvperf.bench.peers.base import Peer
from cvperf.bench.problems.base import Problem, Shape
from cvperf.bench.results import Measurement
from cvperf.bench.roofline import Ceilings
from cvperf.bench.timing import Plan, Timing, WallClock, measure

# So long that half a thousand shapes are done in half an hour. Some 25 rounds are what it takes to
# tell a change of 10 % (see report/regression.py); a call over 8 ms gets fewer.
_CALLS = Plan(seconds=0.2, min_samples=15, max_samples=40, precision=0.02)
# A network or a training step takes up to seconds, and is worth its time.
_NETWORKS = Plan(seconds=3.0, min_samples=7, max_samples=30, precision=0.02)


def plan(suite: str, seconds: float | None = None) -> Plan:
    """How long a contender may take on one case of a suite.

    Args:
        seconds: take this long instead; samples go on until the time is up.
    """
    if seconds is not None:
        return Plan(seconds=seconds, min_samples=15, max_samples=1000, precision=1e-6)
    return _NETWORKS if suite in ("models", "training") else _CALLS


@dataclass(frozen=True)
class Run:
    """What every case of one ``cvperf bench`` shares."""

    suite: str
    device: str
    plan: Plan
    environment: Mapping[str, str]
    ceilings: Ceilings | None = None
    seconds: float | None = None
    """What ``plan`` was given."""
    seed: int = 0
    tick: Callable[[str], None] = field(default=lambda about: None)
    """Called with what is being done, for a progress bar."""

    def command(self, shape: Shape) -> str:
        """The command that repeats a row."""
        words = ["cvperf", "bench", self.suite, "--device", self.device]
        words += ["--op", shape.subject, "--case", shape.name]
        if self.device == "cpu":
            words += ["--threads", self.environment["threads"]]
        if self.seconds is not None:
            words += ["--seconds", str(self.seconds)]
        return shlex.join(words)


@dataclass
class _Entry:
    """One peer on one case, on its way to a row."""

    peer: Peer
    row: Measurement
    contender: Contender | None = None


def race(shape: Shape, peers: Sequence[Peer], run: Run) -> list[Measurement]:
    """One row for every peer on one case, ours among them.

    A contender is timed only if its answer is within the tolerance table's limit.
    """
    problem = shape.problem(run.seed, run.device)
    run.tick(f"{shape.subject} {shape.name}: reference")
    expected = problem.reference()
    blank = _blank(shape, problem, run)
    entries = [_Entry(peer, replace(blank, contender=peer.name)) for peer in peers]
    for entry in entries:
        run.tick(f"{shape.subject} {shape.name}: checking {entry.peer.name}")
        _check(entry, problem, expected, run.device)
    ready = [entry for entry in entries if entry.contender is not None]
    contenders = [
        _cold(entry, shape, run) if run.device == "cuda" else entry.contender
        for entry in ready
        if entry.contender is not None
    ]
    clock = cuda_clock.CudaClock() if run.device == "cuda" else WallClock()
    run.tick(f"{shape.subject} {shape.name}: timing {len(contenders)}")
    timings = measure(contenders, run.plan, clock, seed=run.seed)
    for entry, contender, timing in zip(ready, contenders, timings, strict=True):
        entry.row = _timed(entry.row, contender, timing, run)
    return [
        replace(entry.row, detail=problem.detail(entry.row, entry.contender)) for entry in entries
    ]


def _blank(shape: Shape, problem: Problem, run: Run) -> Measurement:
    """What the rows of a case share. Once a case: counting a network's flop runs it on no data."""
    return Measurement(
        suite=run.suite,
        op=shape.subject,
        case=shape.name,
        contender="",
        status="unsupported",
        device=run.device,
        dtype=shape.dtype,
        layout=shape.layout,
        shape=shape.numbers,
        tolerance=problem.tolerance,
        flop=shape.flop,
        bytes=shape.bytes,
        size=shape.size,
        command=run.command(shape),
        environment=run.environment,
    )


def _check(entry: _Entry, problem: Problem, expected: Tensor, device: str) -> None:
    """Make the contender and hold its answer against the reference."""
    if (missing := entry.peer.missing()) is not None:
        entry.row = replace(entry.row, status="missing", note=missing)
        return
    version = entry.peer.version()
    try:
        contender = entry.peer.contender(problem)
        with contender.context():
            raw, peak = memory.peak_of(contender.run, device)
        error = problem.error(expected, contender.answer(raw))
    except Unsupported as reason:
        entry.row = replace(entry.row, version=version, note=str(reason))
        return
    except Exception as failure:  # noqa: BLE001  (whatever a peer raises, the others are measured)
        note = "".join(traceback.format_exception_only(failure)).strip()
        entry.row = replace(entry.row, version=version, status="failed", note=note[:500])
        return
    right = error <= problem.tolerance
    entry.row = replace(
        entry.row,
        version=version,
        layout=contender.layout or entry.row.layout,
        note=contender.note if right else _why_wrong(error, problem.tolerance),
        status="wrong",  # until it has a time
        error=error if math.isfinite(error) else None,  # JSON has no infinity
        peak_bytes=peak,
    )
    entry.contender = contender if right else None


def _why_wrong(error: float, tolerance: float) -> str:
    if not math.isfinite(error):
        return "the answer has another shape than the reference, or a NaN"
    return f"the error {error:.2g} is beyond the tolerance {tolerance:.2g}"


def _cold(entry: _Entry, shape: Shape, run: Run) -> Contender:
    """The contender over as many sets of buffers as overflow the GPU's cache."""
    assert entry.contender is not None
    more = range(1, cuda_clock.buffer_sets(shape.bytes))
    others = [entry.peer.contender(shape.problem(run.seed + i, run.device)) for i in more]
    return cuda_clock.rotating([entry.contender, *others]) if others else entry.contender


def _timed(row: Measurement, contender: Contender, timing: Timing, run: Run) -> Measurement:
    ceiling = None
    if run.ceilings is not None and (row.flop or row.bytes):
        ceiling = run.ceilings.roofline_ms(row.flop, row.bytes, row.dtype)
    on_gpu = run.device == "cuda"
    joules = energy.counter(run.device)
    wait = torch.cuda.synchronize if on_gpu else lambda: None
    with contender.context():
        return replace(
            row,
            status="ok",
            median_ms=timing.median,
            p20_ms=timing.percentile(20),
            p80_ms=timing.percentile(80),
            n=len(timing.samples_ms),
            samples_ms=[float(f"{sample:.5g}") for sample in timing.samples_ms],
            host_us=cuda_clock.host_us(contender.run) if on_gpu else None,
            roofline_ms=ceiling,
            roofline_share=None if ceiling is None else ceiling / timing.median,
            energy_j=energy.of_call(contender.run, joules, wait) if joules else None,
        )


def answers_agree(problem: Problem, contender: Contender) -> tuple[bool, float]:
    """Whether a contender is right on a problem, and its error: the check of pytest's suites."""
    error = problem.error(problem.reference(), contender.once())
    return error <= problem.tolerance, error
