"""Runs shapes through contenders: checks every answer, then times those that are right."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from cvperf.bench import cuda_clock
from cvperf.bench.apart import LIMIT_S, TURN_S, Worker, measure_apart
from cvperf.bench.contender import Contender
from cvperf.bench.entry import Entry
from cvperf.bench.peers.base import Peer
from cvperf.bench.problems.base import Problem, Shape
from cvperf.bench.results import Measurement
from cvperf.bench.roofline import Ceilings
from cvperf.bench.timing import Plan, WallClock, measure
from cvperf.bench.worker import Job

# So long that half a thousand shapes are done in half an hour. Some 25 rounds are what it takes to
# tell a change of 10 % (see report/regression.py); a call over 8 ms gets fewer.
_CALLS = Plan(seconds=0.2, min_samples=15, max_samples=40, precision=0.02)
# A network or a training step takes up to seconds, and is worth its time.
_NETWORKS = Plan(seconds=3.0, min_samples=7, max_samples=30, precision=0.02)
# A turn is as long as several calls, and half of it is the way there.
_NETWORKS_APART = replace(_NETWORKS, seconds=6.0)


def apart_by_default(suite: str, device: str) -> bool:
    """Whether contenders of a suite have a process each: where their thread pools or their settings
    of memory meet, and a case is worth the seconds that starting them takes."""
    return suite in ("models", "training") and device == "cpu"


def plan(suite: str, seconds: float | None = None, apart: bool = False) -> Plan:
    """How long a contender may take on one case of a suite.

    Args:
        seconds: take this long instead; samples go on until the time is up.
        apart: whether each has a process of its own.
    """
    if seconds is not None:
        found = Plan(seconds=seconds, min_samples=15, max_samples=1000, precision=1e-6)
    elif suite in ("models", "training"):
        found = _NETWORKS_APART if apart else _NETWORKS
    else:
        found = _CALLS
    return replace(found, sample_s=TURN_S) if apart else found


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
    apart: bool = False
    """Whether each contender has a process of its own."""
    limit_s: float = LIMIT_S
    """The longest wait for such a process."""
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
        if apart_by_default(self.suite, self.device) and not self.apart:
            words.append("--one-process")
        return shlex.join(words)


def race(shape: Shape, peers: Sequence[Peer], run: Run) -> list[Measurement]:
    """One row for every peer on one case, ours among them.

    A contender is timed only if its answer is within the tolerance table's limit.
    """
    problem = shape.problem(run.seed, run.device)
    run.tick(f"{shape.subject} {shape.name}: reference")
    expected = problem.reference()
    blank = _blank(shape, problem, run)
    entries = [Entry(peer, replace(blank, contender=peer.name)) for peer in peers]
    rows = _apart if run.apart else _together
    return rows(problem, expected, entries, run)


def _together(
    problem: Problem, expected: Any, entries: Sequence[Entry], run: Run
) -> list[Measurement]:
    """The rows by this process."""
    for entry in entries:
        run.tick(f"{_name(problem)}: checking {entry.peer.name}")
        entry.check(problem, expected)
    ready = [entry for entry in entries if entry.contender is not None]
    contenders = [
        _cold(entry, problem.shape, run) if run.device == "cuda" else entry.contender
        for entry in ready
        if entry.contender is not None
    ]
    clock = cuda_clock.CudaClock() if run.device == "cuda" else WallClock()
    run.tick(f"{_name(problem)}: timing {len(contenders)}")
    timings = measure(contenders, run.plan, clock, seed=run.seed)
    for entry, contender, timing in zip(ready, contenders, timings, strict=True):
        entry.timed(contender, timing, run.ceilings)
    return [entry.finished(problem) for entry in entries]


def _apart(
    problem: Problem, expected: Any, entries: Sequence[Entry], run: Run
) -> list[Measurement]:
    """The rows by a process for each contender."""
    shape, threads = problem.shape, torch.get_num_threads()
    contenders: list[Entry | Worker] = []
    with ExitStack() as processes:
        ready = []
        for entry in entries:
            run.tick(f"{_name(problem)}: checking {entry.peer.name}")
            if entry.peer.missing() is not None or shape.op not in entry.peer.makers:
                entry.check(problem, expected)  # takes no part: there is nothing to run
                contenders.append(entry)
                continue
            job = Job(entry.peer, shape, entry.row, expected, run.seed, threads)
            worker = processes.enter_context(Worker(job, run.limit_s))
            contenders.append(worker)
            if worker.check():
                ready.append(worker)
        run.tick(f"{_name(problem)}: timing {len(ready)}")
        for worker, timing in measure_apart(ready, run.plan, run.seed):
            worker.finish(timing, run.ceilings)
    return [each.finished(problem) for each in contenders]


def _name(problem: Problem) -> str:
    return f"{problem.shape.subject} {problem.shape.name}"


def _cold(entry: Entry, shape: Shape, run: Run) -> Contender:
    """The contender over as many sets of buffers as overflow the GPU's cache."""
    assert entry.contender is not None
    more = range(1, cuda_clock.buffer_sets(shape.bytes))
    others = [entry.peer.contender(shape.problem(run.seed + i, run.device)) for i in more]
    return cuda_clock.rotating([entry.contender, *others]) if others else entry.contender


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


def answers_agree(problem: Problem, contender: Contender) -> tuple[bool, float]:
    """Whether a contender is right on a problem, and its error: the check of pytest's suites."""
    error = problem.error(problem.reference(), contender.once())
    return error <= problem.tolerance, error
