"""Tuned thresholds against trying every one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cvperf import ArgumentError
from cvperf.eval import tune_thresholds

METRICS = ("f1", "accuracy", "balanced_accuracy")


def value(metric: str, scores: Tensor, targets: Tensor, threshold: float) -> float:
    """The metric by its definition."""
    yes, true = scores >= threshold, targets.bool()
    tp, fp = int((yes & true).sum()), int((yes & ~true).sum())
    fn, tn = int((~yes & true).sum()), int((~yes & ~true).sum())
    if metric == "f1":
        return 2 * tp / (2 * tp + fp + fn)
    if metric == "accuracy":
        return (tp + tn) / len(targets)
    return (tp / (tp + fn) + tn / (tn + fp)) / 2


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("step", [0.0, 0.1])
def test_no_threshold_is_better(metric: str, step: float) -> None:
    generator = torch.Generator().manual_seed(1)
    targets = (torch.rand(40, 3, generator=generator) < torch.tensor([0.1, 0.4, 0.8])).long()
    scores = torch.rand(40, 3, generator=generator) + 0.3 * targets
    if step:
        scores = (scores / step).round() * step  # many equal scores
    found = tune_thresholds(scores, targets, metric)
    assert found.shape == (3,)
    for number in range(3):
        column, truth = scores[:, number].double(), targets[:, number]
        candidates = [*column.tolist(), float("inf")]
        best = max(value(metric, column, truth, candidate) for candidate in candidates)
        assert value(metric, column, truth, float(found[number])) == pytest.approx(best, abs=1e-12)
        alone = tune_thresholds(scores[:, number], truth, metric)
        assert alone == found[number]


def test_tuned_thresholds_beat_a_half_for_a_rare_class() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.rand(2000, generator=generator) < 0.02
    scores = (torch.randn(2000, generator=generator) + 2.5 * targets - 4).sigmoid()
    fresh = slice(1000, None)
    threshold = float(tune_thresholds(scores[:1000], targets[:1000]))
    tuned = value("f1", scores[fresh], targets[fresh], threshold)
    assert tuned > value("f1", scores[fresh], targets[fresh], 0.5) + 0.1


def test_a_threshold_lies_between_two_scores_and_parts_neighbours_exactly() -> None:
    assert tune_thresholds(torch.tensor([0.2, 0.8]), torch.tensor([0, 1])) == pytest.approx(0.5)
    low = torch.tensor(0.3, dtype=torch.float64)
    high = torch.nextafter(low, torch.tensor(1.0, dtype=torch.float64))
    assert tune_thresholds(torch.stack([low, high]), torch.tensor([0, 1])) == high


def test_classes_that_never_or_always_occur() -> None:
    scores = torch.tensor([[0.1, 0.2], [0.9, 0.4]])
    found = tune_thresholds(scores, torch.tensor([[0, 1], [0, 1]]))
    assert found.tolist() == [float("inf"), pytest.approx(0.2)]
    assert (scores >= found).tolist() == [[False, True], [False, True]]


def test_the_cost_is_that_of_sorting() -> None:
    # Trying each of 300,000 thresholds in turn would take hours.
    scores = torch.rand(300_000, generator=torch.Generator().manual_seed(0))
    found = tune_thresholds(scores, scores > 0.7)
    assert found == pytest.approx(0.7, abs=1e-4)


@pytest.mark.parametrize(
    ("scores", "targets", "metric", "message"),
    [
        (torch.zeros(3), torch.zeros(4), "f1", r"both be \[N\]"),
        (torch.zeros(0, 2), torch.zeros(0, 2), "f1", "must have a sample"),
        (torch.tensor([float("nan")]), torch.ones(1), "f1", "NaN"),
        (torch.zeros(2), torch.tensor([0, 2]), "f1", r"0 or 1, got \[0, 2\]"),
        (torch.zeros(2), torch.zeros(2), "recall", "one of f1, accuracy, balanced_accuracy"),
    ],
)
def test_bad_input_is_refused(scores: Tensor, targets: Tensor, metric: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        tune_thresholds(scores, targets, metric)
