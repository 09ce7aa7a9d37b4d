"""Contenders in processes of their own, asked from here: the other end of :mod:`~.worker`.

In one process the thread pools of all contenders share its processors: those of ONNX Runtime and
OpenVINO spin for a while after a call, and so take time of the contender that comes next.
"""

from __future__ import annotations

import os
import pickle
import signal
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Pipe
from types import TracebackType
from typing import Any

from cvperf.bench.problems.base import Problem
from cvperf.bench.results import Measurement
from cvperf.bench.roofline import Ceilings
from cvperf.bench.timing import Plan, Timing, measure_samplers
from cvperf.bench.worker import Finish, Job, Turn

TURN_S = 0.3
"""Calls of one contender before the next one's turn: so long that a turn's first calls, which find
processors and caches as another process left them, are few of it."""
OWN_PROCESS = "one for each contender"
"""What a row of such a race has under ``process`` in its details."""
LIMIT_S = 600.0
"""The longest wait for any one answer; quantising and compiling a network takes minutes."""


class WorkerEnded(Exception):  # noqa: N818  (an outcome, as Unsupported is)
    """A process gave no answer; the worker's row is ``failed`` and says why."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker.row.note)
        self.worker = worker


class Worker:
    """A process for one contender; leaving the ``with`` block ends it and all that it started.

    Args:
        job: what it is for. Only the maker of the shape's op need be picklable.
        limit_s: how long to wait for an answer.
    """

    def __init__(self, job: Job, limit_s: float = LIMIT_S) -> None:
        op = job.shape.op
        makers = {name: maker for name, maker in job.peer.makers.items() if name == op}
        self._job = replace(job, peer=replace(job.peer, makers=makers, unasked=None))
        self.limit_s = limit_s
        self.row = replace(job.row, version=job.peer.version())

    def __enter__(self) -> Worker:
        self._pipe, other = Pipe()
        command = f"from cvperf.bench.worker import serve; serve({other.fileno()}, {os.getpid()})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=2,  # what libraries print is none of our output
            pass_fds=[other.fileno()],
            # A group of its own: Ctrl-C reaches us alone, and its helpers end with it.
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        other.close()  # so that its end is the end of the pipe
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def check(self) -> bool:
        """Make the contender and hold its answer against the reference; whether it can be timed."""
        with suppress(WorkerEnded):
            self.row, right = self._ask(self._job)
            return bool(right)
        return False

    def turn(self, calls: int) -> float:
        """Seconds of a call, the median of so many: a ``Sampler``.

        Raises:
            WorkerEnded: the process did not live to answer, or took too long.
        """
        return statistics.median(self._ask(Turn(calls)))

    def finish(self, timing: Timing, ceilings: Ceilings | None) -> None:
        """Fill in the row."""
        with suppress(WorkerEnded):
            self.row = self._ask(Finish(timing, ceilings))

    def finished(self, problem: Problem) -> Measurement:
        """The row, with what only this kind of problem can add."""
        detail = self.row.detail or problem.detail(self.row, None)
        return replace(self.row, detail={**detail, "process": OWN_PROCESS})

    def _ask(self, question: Any) -> Any:
        if self._pipe.closed:
            raise WorkerEnded(self)
        try:
            self._pipe.send_bytes(pickle.dumps(question))
            if self._pipe.poll(self.limit_s):
                return pickle.loads(self._pipe.recv_bytes())
        except (EOFError, ConnectionError):
            self._process.wait(self.limit_s)
        code = self._process.poll()
        self._end()
        if code is None:
            why = f"no answer after {self.limit_s:g} seconds"
        else:
            why = f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self.row = replace(self.row, status="failed", note=why)
        raise WorkerEnded(self)

    def _end(self) -> None:
        if self._pipe.closed:
            return
        self._pipe.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def measure_apart(
    workers: Sequence[Worker], plan: Plan, seed: int = 0
) -> list[tuple[Worker, Timing]]:
    """As ``timing.measure``, of those that live: of each the time, a sample a turn.

    Where one ends in the middle the others begin anew.
    """
    left = list(workers)
    while True:
        try:
            timings = measure_samplers([worker.turn for worker in left], plan, seed)
        except WorkerEnded as ended:
            left.remove(ended.worker)
        else:
            return list(zip(left, timings, strict=True))
