"""The suites under pytest-benchmark: one benchmark for each case and contender.

``cvperf bench`` interleaves contenders and draws rooflines; this is for those who live in pytest:
``pytest benchmarks/ -k "nms and 1000" --benchmark-group-by=param:shape``.
"""

from __future__ import annotations

from typing import Any

import pytest

from cvperf.bench.contender import Unsupported
from cvperf.bench.peers import Peer, select
from cvperf.bench.peers.ours import OURS
from cvperf.bench.problems.base import Problem, Shape
from cvperf.bench.runner import answers_agree
from cvperf.benchmarks.suites import SUITES


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    option = metafunc.config.getoption
    quick, device, names = not option("--full"), option("--device"), option("--peers")
    peers = (OURS, *select(None if names == "auto" else names.split(","), device))
    races = [
        pytest.param(shape, peer, id=f"{suite}-{shape.subject}-{shape.name}-{peer.name}")
        for suite, shapes in SUITES.items()
        for shape in shapes(quick, device)
        for peer in peers
        if peer.joins(shape) and shape.op in peer.makers
    ]
    metafunc.parametrize(("shape", "peer"), races)


_problems: dict[tuple[str, str], Problem] = {}


def problem_of(shape: Shape, device: str) -> Problem:
    """The shape's problem; kept while its contenders, which come one after the other, run."""
    key = (shape.subject, shape.name)
    if key not in _problems:
        _problems.clear()
        _problems[key] = shape.problem(device=device)
    return _problems[key]


def test_benchmark(shape: Shape, peer: Peer, benchmark: Any, pytestconfig: pytest.Config) -> None:
    if (missing := peer.missing()) is not None:
        pytest.skip(f"{peer.name} is {missing}")
    problem = problem_of(shape, pytestconfig.getoption("--device"))
    try:
        contender = peer.contender(problem)
    except Unsupported as reason:
        pytest.skip(str(reason))
    with contender.context():
        right, error = answers_agree(problem, contender)
        assert right, f"error {error:.2g} is beyond the tolerance {problem.tolerance:.2g}"
        benchmark(contender.run)
    benchmark.extra_info |= {"flop": shape.flop, "bytes": shape.bytes, "error": error}
