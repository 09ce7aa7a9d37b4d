"""A slower kernel is told from a slower machine, and noise from both."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from cvperf.bench.report.regression import Change, compare, not_repeated
from cvperf.bench.results import Measurement
from tests.bench.made_up import ceilings, race, row

PEERS = ("torch", "torch.compile", "onnxruntime", "openvino")


def run(
    seed: int, ours: float = 1.0, machine: float = 1.0, rounds: int = 25, peers: int = 4
) -> list[Measurement]:
    """One case on a shared machine: 8 % of drift that all of a round feel, 2.5 % of noise of each
    contender's own, and in one sample of 25 somebody else's work on top."""
    random = np.random.default_rng(seed)
    drift = random.normal(0, 0.08, rounds)
    rows = []
    for name in ("cvperf", *PEERS[:peers]):
        spikes = (random.random(rounds) < 0.04) * random.exponential(0.3, rounds)
        noise = np.exp(drift + random.normal(0, 0.025, rounds) + spikes)
        samples = machine * (ours if name == "cvperf" else 1.7) * noise
        rows.append(row(name, samples_ms=[float(sample) for sample in samples]))
    return rows


def only(current: list[Measurement], baseline: list[Measurement]) -> Change:
    (change,) = compare(current, baseline)
    return change


def test_ten_percent_slower_is_flagged_in_20_of_20_trials() -> None:
    found = [only(run(2 * i + 1, ours=1.1), run(2 * i)).verdict for i in range(20)]
    assert found == ["regression"] * 20


def test_no_change_is_flagged_in_none_of_20_trials() -> None:
    changes = [only(run(2 * i + 1), run(2 * i)) for i in range(20)]
    assert not [change for change in changes if change.verdict in ("regression", "improvement")]


def test_a_report_of_300_unchanged_cases_flags_none() -> None:
    changes = [only(run(2 * i + 1001, rounds=15), run(2 * i + 1000, rounds=15)) for i in range(300)]
    assert not [change for change in changes if change.verdict in ("regression", "improvement")]


def test_ten_percent_faster_is_an_improvement() -> None:
    change = only(run(1, ours=0.9), run(0))
    assert change.verdict == "improvement"
    assert not change.failed


def test_a_slower_machine_is_no_regression() -> None:
    change = only(run(1, machine=1.3), run(0))
    assert change.verdict in ("same", "unclear")
    assert change.factor == pytest.approx(1, abs=0.05)
    assert change.yardstick == PEERS


def test_the_factor_is_the_slowdown_and_lies_in_its_interval() -> None:
    change = only(run(1, ours=1.5), run(0))
    assert change.low is not None
    assert change.high is not None
    assert change.low < 1.5 < change.high
    assert change.factor == pytest.approx(1.5, rel=0.04)


def test_the_same_files_give_the_same_interval() -> None:
    first, second = (only(run(1, ours=1.1), run(0)) for _ in range(2))
    assert (first.low, first.high) == (second.low, second.high)


def test_a_peer_of_another_version_is_no_yardstick() -> None:
    current = [replace(r, version="new") if r.contender == "torch" else r for r in run(1)]
    assert only(current, run(0)).yardstick == PEERS[1:]


def test_a_peer_that_left_the_rounds_early_does_not_cost_the_others_theirs() -> None:
    current = [
        replace(r, samples_ms=r.samples_ms[:7]) if r.contender == "openvino" else r for r in run(1)
    ]
    assert only(current, run(0)).yardstick == PEERS[:3]


def test_without_a_shared_peer_times_are_compared_and_it_says_so() -> None:
    quiet = [race({"cvperf": ms}, seed=seed, rounds=40) for seed, ms in ((0, 1.0), (1, 1.5))]
    change = only(quiet[1], quiet[0])
    assert change.verdict == "regression"
    assert change.yardstick == ()
    assert "absolute" in change.note


def test_too_few_rounds_decide_nothing() -> None:
    change = only(run(1, ours=2.0, rounds=5), run(0, rounds=5))
    assert change.verdict == "unclear"
    assert "too few rounds" in change.note


def test_peers_with_too_few_rounds_are_not_replaced_by_absolute_times() -> None:
    def with_a_slow_peer(seed: int, ours: float) -> list[Measurement]:
        rows = run(seed, ours=ours, peers=1)
        return [rows[0], replace(rows[1], samples_ms=rows[1].samples_ms[:3])]

    change = only(with_a_slow_peer(1, 2.0), with_a_slow_peer(0, 1.0))
    assert change.verdict == "unclear"
    assert change.note == "too few rounds to tell: 3 with any peer"


def test_a_run_beside_a_busy_process_decides_nothing() -> None:
    now = run(1)
    stalls = [8.0 if i % 3 else 1.0 for i in range(25)]
    stalled = [ms * stall for ms, stall in zip(now[0].samples_ms, stalls, strict=True)]
    change = only([row(samples_ms=stalled), *now[1:]], run(0))
    assert change.verdict == "unclear"
    assert "disturbed" in change.note


@pytest.mark.parametrize("status", ["wrong", "failed", "unsupported"])
def test_a_row_that_lost_its_time_fails(status: str) -> None:
    change = only([row(status=status, note="why")], run(0))
    assert change.verdict == "lost"
    assert change.failed
    assert "why" in change.note


def test_rows_that_only_one_run_has_are_not_compared_but_named() -> None:
    old = [*run(0), row(case="gone")]
    assert [change.row.case for change in compare([*run(1), row(case="new")], old)] == [
        "uniform 1000"
    ]
    assert [each.case for each in not_repeated(run(1), old)] == ["gone"]


def test_the_machines_ceilings_are_not_ours_to_regress() -> None:
    assert compare(ceilings(), ceilings()) == []
    assert not_repeated([], ceilings()) == []


def test_a_change_reads_as_one_line() -> None:
    line = str(only(run(1, ours=1.5, peers=1), run(0, peers=1)))
    assert re.fullmatch(
        r"nms uniform 1000 \(cvperf, float32, cpu\): regression, 1\.\d\d of the time then "
        r"\(1\.\d\d to 1\.\d\d\), seen by torch",
        line,
    )


def test_the_worst_comes_first() -> None:
    cases = {"a": 1.2, "b": 1.0, "c": 1.6, "d": 0.7}
    old = [replace(r, case=case) for case in cases for r in run(0)]
    new = [replace(r, case=case) for case, ms in cases.items() for r in run(1, ours=ms)]
    assert [change.row.case for change in compare(new, old)] == ["c", "a", "d", "b"]


def test_contenders_with_a_process_each_are_not_compared_with_those_that_shared_one() -> None:
    apart = [replace(each, detail={"process": "one for each contender"}) for each in run(1, 1.5)]
    assert only(apart, [replace(each, detail=apart[0].detail) for each in run(0)]).failed
    change = only(apart, run(0))
    assert change.verdict == "unclear"
    assert "shared one in the other" in change.note
