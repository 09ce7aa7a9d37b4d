"""The numbers of the report: ratios, verdicts and means."""

from __future__ import annotations

import math

import pytest

from cvperf.bench.report import paired, summary
from cvperf.bench.report.runs import Run
from cvperf.bench.report.summary import Contest
from cvperf.bench.results import Measurement
from tests.bench.made_up import race, row


def contest(rows: list[Measurement]) -> Contest:
    (found,) = summary.contests([Run("", tuple(rows))])
    return found


def group(rows: list[Measurement]) -> summary.Group:
    (found,) = summary.groups(summary.contests([Run("", tuple(rows))]))
    return found


# Ratios


def test_the_ratio_is_the_peers_time_over_ours_with_its_interval() -> None:
    found = contest(race({"cvperf": 1.0, "torch": 2.0}, rounds=30)).ratio
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(2.0, rel=0.02)


def test_drift_that_both_feel_does_not_widen_the_interval() -> None:
    waves = [1 + 0.5 * math.sin(i) for i in range(20)]
    found = paired.ratio([3 * wave for wave in waves], waves)
    assert found.value == pytest.approx(3)
    assert found.high == pytest.approx(found.low)


@pytest.mark.parametrize(("ms", "verdict"), [(2.0, "faster"), (0.5, "slower"), (1.0, "even")])
def test_the_verdict_follows_the_interval(ms: float, verdict: str) -> None:
    assert contest(race({"cvperf": 1.0, "torch": ms})).verdict == verdict


def test_five_rounds_give_no_interval_and_decide_only_if_the_samples_are_apart() -> None:
    near = contest(race({"cvperf": 1.05, "torch": 1.0}, rounds=5))
    assert near.ratio is not None
    assert near.ratio.low is None
    assert near.verdict == "undecided"
    assert contest(race({"cvperf": 30.0, "torch": 1.0}, rounds=5)).verdict == "slower"


def test_two_samples_each_decide_nothing_however_far_apart() -> None:
    assert contest(race({"cvperf": 30.0, "torch": 1.0}, rounds=2)).verdict == "undecided"


def test_a_loss_that_few_rounds_cannot_prove_is_listed_with_the_losses() -> None:
    found = summary.losses([contest(race({"cvperf": 30.0, "torch": 1.0}, rounds=2))])
    assert [each.verdict for each in found] == ["undecided"]


def test_a_contender_that_left_early_is_paired_in_the_rounds_it_was_in() -> None:
    found = paired.ratio([2.0] * 8, [1.0] * 8 + [9.0] * 8)
    assert (found.value, found.rounds) == (2.0, 8)


def test_the_interval_covers_the_true_ratio_as_often_as_it_says() -> None:
    inside = 0
    for seed in range(200):
        found = contest(race({"cvperf": 1.0, "torch": 1.5}, rounds=20, seed=seed)).ratio
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 1.5 <= found.high
    assert inside >= 180  # of 190 expected


def test_the_best_peer_is_the_fastest_with_a_right_answer() -> None:
    rows = race({"cvperf": 1.0, "torch": 3.0, "openvino": 2.0})
    rows.append(row("opencv", status="wrong", error=1.0))
    best = contest(rows).best
    assert best is not None
    assert best.contender == "openvino"


def test_variants_of_ours_are_compared_with_peers_and_not_with_each_other() -> None:
    rows = race({"cvperf": 1.0, "cvperf drop-in": 0.1, "torch": 2.0})
    found = summary.contests([Run("", tuple(rows))])
    assert [c.ours.contender for c in found if c.ours] == ["cvperf", "cvperf drop-in"]
    assert {c.best.contender for c in found if c.best} == {"torch"}
    assert len(summary.groups(found)) == 2


# Summaries


def test_the_mean_is_geometric_and_the_worst_case_is_named() -> None:
    rows = [
        *(row(name, case="won", samples_ms=[ms] * 9) for name, ms in (("cvperf", 1.0), ("a", 4.0))),
        *(
            row(name, case="lost", samples_ms=[ms] * 9)
            for name, ms in (("cvperf", 2.0), ("a", 1.0))
        ),
    ]
    found = group(rows)
    assert found.mean == pytest.approx(math.sqrt(4 * 0.5))
    assert found.worst is not None
    assert found.worst.first.case == "lost"
    assert found.against["a"] == (pytest.approx(math.sqrt(2)), 2)
    assert [c.first.case for c in summary.losses(found.contests)] == ["lost"]


def test_dtypes_and_devices_are_not_averaged_together() -> None:
    rows = [
        each
        for kind in ({"dtype": "float32"}, {"dtype": "bfloat16"}, {"device": "cuda"})
        for each in race({"cvperf": 1.0, "torch": 2.0}, **kind)
    ]
    found = summary.groups(summary.contests([Run("", tuple(rows))]))
    assert [(g.dtype, g.device) for g in found] == [
        ("float32", "cpu"), ("bfloat16", "cpu"), ("float32", "cuda"),
    ]  # fmt: skip
