"""A race refuses wrong answers, survives failing peers and leaves nothing out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from cvperf.bench.contender import Contender, Unsupported
from cvperf.bench.peers.base import Peer
from cvperf.bench.problems.base import Problem, Shape
from cvperf.bench.results import Measurement
from cvperf.bench.roofline import Ceilings, Level
from cvperf.bench.runner import Run, race
from cvperf.bench.timing import Plan

PLAN = Plan(seconds=0.05, sample_s=1e-4, min_samples=3, max_samples=5)
CEILINGS = Ceilings("cpu", 2, {"float32": 1e9}, (Level("memory", 10**12, 1e9),))


@dataclass(frozen=True, kw_only=True)
class SumShape(Shape):
    """The sum of two vectors."""

    op: ClassVar[str] = "sum"

    @property
    def flop(self) -> int:
        return 1000

    @property
    def bytes(self) -> int:
        return 12_000

    @property
    def numbers(self) -> dict[str, Any]:
        return {"length": 1000}

    def problem(self, seed: int = 0, device: str = "cpu") -> Sum:
        return Sum(self, seed)


class Sum(Problem):
    def __init__(self, shape: SumShape, seed: int) -> None:
        self.shape = shape
        self.a, self.b = torch.randn(2, 1000, generator=torch.Generator().manual_seed(seed))

    def reference(self) -> Tensor:
        return self.a.double() + self.b.double()


def peer(name: str, maker: Any, packages: tuple[str, ...] = ("torch",)) -> Peer:
    return Peer(name, packages, {"sum": maker})


def right(problem: Sum) -> Contender:
    return Contender(lambda: problem.a + problem.b)


def go(*peers: Peer) -> dict[str, Measurement]:
    run = Run("kernels", "cpu", PLAN, {"threads": "2"}, CEILINGS)
    rows = race(SumShape(name="1000"), peers, run)
    assert len(rows) == len(peers)
    return {row.contender: row for row in rows}


def planted(error: float) -> Any:
    def maker(problem: Sum) -> Contender:
        def run() -> Tensor:
            answer = problem.a + problem.b
            answer[123] += error * answer.abs().max()
            return answer

        return Contender(run)

    return maker


def test_a_right_answer_gets_a_time_and_its_share_of_the_roofline() -> None:
    row = go(peer("plain", right))["plain"]
    assert row.status == "ok"
    assert row.version == f"torch {version('torch')}"
    assert 3 <= row.n == len(row.samples_ms)
    assert row.median_ms is not None
    assert row.roofline_share is not None
    assert row.p20_ms <= row.median_ms <= row.p80_ms  # type: ignore[operator]
    assert row.roofline_ms == pytest.approx(0.012)
    assert row.roofline_share == pytest.approx(0.012 / row.median_ms)
    assert row.error is not None
    assert row.error <= row.tolerance  # type: ignore[operator]


@pytest.mark.parametrize("error", [1e-5, 1e-3, 0.5])
def test_a_planted_error_gets_no_time_only_the_error(error: float) -> None:
    rows = go(peer("plain", right), peer("planted", planted(error)))
    assert rows["plain"].status == "ok"
    row = rows["planted"]
    assert (row.status, row.median_ms, row.n) == ("wrong", None, 0)
    assert row.error == pytest.approx(error, rel=0.05)
    assert "is beyond the tolerance" in row.note


@pytest.mark.parametrize("answer", [torch.full((1000,), math.nan), torch.zeros(999)])
def test_a_nan_or_another_shape_is_wrong(answer: Tensor) -> None:
    row = go(peer("odd", lambda problem: Contender(lambda: answer)))["odd"]
    assert (row.status, row.median_ms, row.error) == ("wrong", None, None)
    assert "another shape than the reference, or a NaN" in row.note


def test_a_missing_peer_is_named_with_its_command() -> None:
    rows = go(peer("plain", right), peer("other", right, ("no-such-package", "torch")))
    assert rows["other"].status == "missing"
    assert rows["other"].note == "not installed: pip install no-such-package torch"


def test_a_peer_that_raises_is_a_failed_row_and_the_others_are_timed() -> None:
    def broken(problem: Sum) -> Contender:
        raise RuntimeError("could not compile")

    rows = go(peer("broken", broken), peer("plain", right))
    assert rows["broken"].status == "failed"
    assert rows["broken"].note == "RuntimeError: could not compile"
    assert rows["plain"].status == "ok"


def test_what_a_peer_does_not_offer_is_said() -> None:
    def refuse(problem: Sum) -> Contender:
        raise Unsupported("takes no vectors")

    rows = go(peer("narrow", refuse), Peer("other", ("torch",), {}))
    assert (rows["narrow"].status, rows["narrow"].note) == ("unsupported", "takes no vectors")
    assert rows["other"].note == "other has no sum"


def test_the_command_repeats_the_row() -> None:
    row = go(peer("plain", right))["plain"]
    assert row.command == "cvperf bench kernels --device cpu --op sum --case 1000 --threads 2"
