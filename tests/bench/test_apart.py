"""Contenders in processes of their own: raced as before; a crash is a row, and none is left."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from cvperf.bench import results
from cvperf.bench.apart import OWN_PROCESS, Worker, WorkerEnded
from cvperf.bench.contender import Contender, Unsupported
from cvperf.bench.peers import select
from cvperf.bench.peers.base import Peer
from cvperf.bench.peers.ours import OURS
from cvperf.bench.peers.torch import PEER as TORCH
from cvperf.bench.problems.model import Model, ModelShape
from cvperf.bench.results import Measurement
from cvperf.bench.runner import Run, plan, race
from cvperf.bench.timing import Plan
from cvperf.bench.worker import Job
from cvperf.benchmarks.suites import SUITES

pytestmark = pytest.mark.usefixtures("one_thread")  # of all processes
PLAN = Plan(seconds=0.2, sample_s=0.02, min_samples=3, max_samples=3)


class Tiny(nn.Module):
    """Two convolutions and classes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()
        )
        self.classes = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classes(self.layers(image).mean((2, 3)))


SHAPE = ModelShape(name="tiny n2", model="tiny", batch=2, side=24, build=Tiny)


# Makers are functions of the module: a process finds them by their names.


def eager(problem: Model) -> Contender:
    return Contender(lambda: problem.module(*problem.inputs), context=torch.inference_mode)


def loud(problem: Model) -> Contender:
    print("a library's words")
    os.write(1, b"and those of its native part\n")
    return replace(eager(problem), note="loud")


def wrong(problem: Model) -> Contender:
    return Contender(lambda: problem.module(*problem.inputs) + 1)


def crash(problem: Model) -> Contender:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def crash_later(problem: Model) -> Contender:
    calls: list[int] = []

    def run() -> torch.Tensor:
        calls.append(1)
        if len(calls) > 4:
            os.kill(os.getpid(), signal.SIGABRT)
        return problem.module(*problem.inputs)

    return Contender(run, context=torch.inference_mode)


def leave(problem: Model) -> Contender:
    os._exit(3)


def hang(problem: Model) -> Contender:
    """In the second call; with a helper."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(os.environ["PIDS"]).write_text(f"{os.getpid()} {child.pid}")
    calls: list[int] = []

    def run() -> torch.Tensor:
        calls.append(1)
        if len(calls) > 1:
            time.sleep(600)
        return problem.module(*problem.inputs)

    return Contender(run, context=torch.inference_mode)


def raises(problem: Model) -> Contender:
    raise RuntimeError("could not compile")


def refuse(problem: Model) -> Contender:
    raise Unsupported("takes no tiny ones")


def peer(maker: object, packages: tuple[str, ...] = ("torch",)) -> Peer:
    return Peer(maker.__name__, packages, {"model": maker})  # type: ignore[attr-defined,dict-item]


def go(*peers: Peer, apart: bool = True, limit_s: float = 120.0) -> dict[str, Measurement]:
    run = Run("models", "cpu", PLAN, {"threads": "2"}, apart=apart, limit_s=limit_s)
    rows = race(SHAPE, peers, run)
    assert [row.contender for row in rows] == [each.name for each in peers]
    return {row.contender: row for row in rows}


def _alive(pid: int) -> bool:
    """A zombie has ended; who started it has only not asked yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _all_end(pids: Sequence[int], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(map(_alive, pids)):
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def pids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where :func:`hang` says who it is."""
    path = tmp_path / "pids"
    monkeypatch.setenv("PIDS", str(path))
    return path


def test_rows_have_the_form_of_those_of_one_process(tmp_path: Path) -> None:
    apart, together = (go(OURS, TORCH, apart=apart) for apart in (True, False))
    with results.writer(tmp_path / "rows.jsonl") as file:
        for row in apart.values():
            file.write(row)
    for read in results.read(tmp_path / "rows.jsonl"):
        other = together[read.contender]
        assert read.status == other.status == "ok"
        assert read.n == len(read.samples_ms) == 3
        assert read.error == other.error, "the same weights and the same input"
        assert read.note == other.note
        same = ("version", "tolerance", "flop", "bytes", "layout", "shape", "environment")
        assert all(getattr(apart[read.contender], name) == getattr(other, name) for name in same), (
            read
        )
        filled = {name for name, value in vars(other).items() if value is not None}
        assert {name for name, value in vars(read).items() if value is not None} == filled
        assert read.detail["process"] == OWN_PROCESS
        assert set(read.detail) == {*other.detail, "process"}
        assert read.detail["throughput"] == pytest.approx(2 / read.time_ms * 1e3)
    assert "--one-process" in together["torch"].command
    assert "--one-process" not in apart["torch"].command


def test_who_crashes_is_a_row_and_the_others_are_timed() -> None:
    rows = go(peer(crash), peer(crash_later), peer(leave), peer(eager))
    expected = {
        "crash": "ended by signal 11",
        "crash_later": "ended by signal 6",
        "leave": "ended with exit code 3",
    }
    for name, note in expected.items():
        row = rows[name]
        assert (row.status, row.note, row.median_ms) == ("failed", note, None)
        assert row.version.startswith("torch ")
    assert rows["eager"].status == "ok"
    assert rows["eager"].n == 3


def test_answers_are_judged_as_in_one_process() -> None:
    peers = (peer(wrong), peer(raises), peer(refuse), peer(loud), peer(eager, ("no-such-one",)))
    rows = go(*peers)
    assert rows["wrong"].status == "wrong"
    assert "is beyond the tolerance" in rows["wrong"].note
    assert (rows["raises"].status, rows["raises"].note) == (
        "failed",
        "RuntimeError: could not compile",
    )
    assert (rows["refuse"].status, rows["refuse"].note) == ("unsupported", "takes no tiny ones")
    assert (rows["loud"].status, rows["loud"].note) == ("ok", "loud")
    assert rows["eager"].status == "missing"
    assert "process" not in rows["eager"].detail


def test_who_hangs_is_ended_with_all_that_it_started(pids: Path) -> None:
    blank = replace(go(peer(refuse), apart=False)["refuse"], contender="hang")
    job = Job(peer(hang), SHAPE, blank, SHAPE.problem().reference(), 0, 1)
    with Worker(job) as worker:
        assert worker.check()
        found = [int(pid) for pid in pids.read_text().split()]
        assert len(found) == sum(map(_alive, found)) == 2
        worker.limit_s = 0.5
        for _ in range(2):  # the second time there is no one left to wait for
            with pytest.raises(WorkerEnded, match="no answer after 0"):
                worker.turn(1)
            assert _all_end(found), "before the block is left"
    assert (worker.row.status, worker.row.note) == ("failed", "no answer after 0.5 seconds")


def test_an_interrupted_race_leaves_no_process(pids: Path) -> None:
    started: list[int] = []

    def interrupt(about: str) -> None:
        if about.endswith("timing 2"):
            started.extend(_children())
            raise KeyboardInterrupt

    run = Run("models", "cpu", PLAN, {"threads": "2"}, apart=True, tick=interrupt)
    with pytest.raises(KeyboardInterrupt):
        race(SHAPE, (peer(eager), peer(loud)), run)
    assert len(started) == 2
    assert not any(map(_alive, started))


def _children() -> list[int]:
    """Processes in groups of their own that this one started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, parent, group = fields[:3]
        if int(parent) == os.getpid() and group == folder.name and state != "Z":
            found.append(int(folder.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_killed_parent_leaves_no_process(pids: Path) -> None:
    code = "from tests.bench import test_apart; test_apart.go(test_apart.peer(test_apart.hang))"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    try:
        end = time.monotonic() + 60
        while not pids.exists() or len(pids.read_text().split()) < 2:
            assert time.monotonic() < end
            time.sleep(0.1)
    finally:
        parent.kill()
        parent.wait()
    worker, helper = map(int, pids.read_text().split())
    try:
        assert _all_end([worker])
    finally:
        os.kill(
            helper, signal.SIGKILL
        )  # what a peer itself starts outlives a parent that is killed


def test_what_the_models_suite_races_can_be_sent_to_a_process() -> None:
    shapes = SUITES["models"](False, "cpu")
    peers = (OURS, *select(None, "cpu"))
    sent = 0
    for shape in shapes:
        assert pickle.loads(pickle.dumps(shape)).numbers == shape.numbers
        for each in peers:
            if (maker := each.makers.get(shape.op)) is not None:
                assert pickle.loads(pickle.dumps(maker)).__class__ is maker.__class__
                sent += 1
    assert sent > 2 * len(shapes)


def test_a_turn_is_a_sample_of_a_third_of_a_second() -> None:
    apart, together = (plan("models", apart=each) for each in (True, False))
    assert apart.sample_s == 0.3
    assert together.sample_s == plan("kernels").sample_s == 0.002
    assert apart.seconds >= 2 * apart.min_samples * apart.sample_s
    assert plan("models", 14.0, apart=True).seconds == 14.0
