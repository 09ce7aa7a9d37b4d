"""The process that one contender has to itself; :mod:`cvperf.bench.apart` starts and asks it.

It is sent a :class:`Job` and answers with the row of the check and whether it can be timed. Then it
waits: it answers a :class:`Turn` with the seconds of each call, and a :class:`Finish` with the
finished row. It ends when the other end of its pipe is closed, or with the process that started it.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from cvperf.bench.contender import Contender
from cvperf.bench.entry import Entry
from cvperf.bench.peers.base import Peer
from cvperf.bench.problems.base import Shape
from cvperf.bench.results import Measurement
from cvperf.bench.roofline import Ceilings
from cvperf.bench.timing import Timing, no_garbage_collection

_SET_PARENT_DEATH_SIGNAL = 1  # of Linux's prctl


@dataclass(frozen=True)
class Job:
    """Who does what. All of it must be picklable: made of functions of modules."""

    peer: Peer
    shape: Shape
    row: Measurement
    expected: Any
    """The reference's answer."""
    seed: int
    threads: int


@dataclass(frozen=True)
class Turn:
    """Time that many calls, each by itself."""

    calls: int


@dataclass(frozen=True)
class Finish:
    """Fill in this time, and what is measured beside it."""

    timing: Timing
    ceilings: Ceilings | None


def serve(descriptor: int, parent: int) -> None:
    """Answer whatever comes through the pipe, until it is closed.

    Args:
        descriptor: of this end of the pipe.
        parent: the process at the other end.
    """
    _end_with(parent)
    os.set_inheritable(descriptor, False)
    connection = Connection(descriptor)

    def answer(value: Any) -> None:
        connection.send_bytes(pickle.dumps(value))

    try:
        job: Job = pickle.loads(connection.recv_bytes())
        torch.set_num_threads(job.threads)
        problem = job.shape.problem(job.seed, job.row.device)
        entry = Entry(job.peer, job.row)
        entry.check(problem, job.expected)
        contender = entry.contender
        answer((entry.row, contender is not None))
        while contender is not None:
            match pickle.loads(connection.recv_bytes()):
                case Turn(calls):
                    answer(_timed(contender, calls))
                case Finish(timing, ceilings):
                    entry.timed(contender, timing, ceilings)
                    answer(entry.finished(problem))
    except EOFError:
        return


def _timed(contender: Contender, calls: int) -> list[float]:
    """Seconds of each call. Of many, a third as many come before them: another process has had
    the processors, and its data the caches."""
    seconds = []
    with contender.context(), no_garbage_collection():
        for _ in range(calls // 3):
            contender.run()
        for _ in range(calls):
            start = time.perf_counter()
            contender.run()
            seconds.append(time.perf_counter() - start)
    return seconds


def _end_with(parent: int) -> None:
    """Have Linux end this process with its parent, whatever it computes then; elsewhere it goes on
    until it next reads from the pipe."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)
