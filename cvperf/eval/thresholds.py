"""The score from which a class counts as present, chosen so that a metric is best."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cvperf.errors import ArgumentError, describe

# Each takes true and false positives, and the numbers of positives and negatives, all float64.
_Metric = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _f1(tp: Tensor, fp: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    predicted_and_true = tp + fp + positives
    # Nothing to find and nothing found is a perfect answer.
    return torch.where(predicted_and_true > 0, 2 * tp / predicted_and_true, 1.0)


def _accuracy(tp: Tensor, fp: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    return (tp + negatives - fp) / (positives + negatives)


def _balanced_accuracy(tp: Tensor, fp: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    return (tp / positives.clamp(min=1) + 1 - fp / negatives.clamp(min=1)) / 2


METRICS: dict[str, _Metric] = {
    "f1": _f1,
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
}


def tune_thresholds(scores: Tensor, targets: Tensor, metric: str = "f1") -> Tensor:
    """The threshold of each class with the best metric; ``scores >= threshold`` is the answer.

    Every threshold that gives another answer is tried, so none is better on these samples. It lies
    half-way between two scores; where several are as good, the highest is taken. Tune on samples
    that the figures to report are not taken from.

    Args:
        scores: float [N, classes], or [N] for one class: logits or probabilities.
        targets: 0 and 1, of the same shape.
        metric: "f1", "accuracy" or "balanced_accuracy" (the mean of both classes' recall).

    Returns:
        float64 [classes], or [] for one class. Infinity where it is best to answer no to
        everything, as for a class that never occurs; the lowest score where yes is.

    Raises:
        ArgumentError: shapes differ, there is no sample, a score is NaN, a target is neither 0 nor
            1, or the metric is unknown.

    O(N log N) for each class.
    """
    _check(scores, targets, metric)
    shape = scores.shape[1:]
    ordered, order = scores.detach().double().reshape(len(scores), -1).sort(0, descending=True)
    truth = targets.reshape(ordered.shape).double().gather(0, order)
    # Row k answers yes to the k highest scores: k = 0 to N.
    none = torch.zeros_like(truth[:1])
    tp = torch.cat([none, truth.cumsum(0)])
    fp = torch.cat([none, (1 - truth).cumsum(0)])
    values = METRICS[metric](tp, fp, tp[-1:], fp[-1:])
    above = torch.cat([torch.full_like(none, torch.inf), ordered])
    below = torch.cat([ordered, ordered[-1:]])
    # No threshold parts equal scores; the last row, which answers yes to all, parts none.
    possible = above > below
    possible[-1] = True
    best = torch.where(possible, values, -torch.inf).argmax(0, keepdim=True)  # the first
    high, low = above.gather(0, best), below.gather(0, best)
    middle = low + (high - low) / 2
    # Neighbours among floating-point numbers have nothing between them.
    return torch.where(middle > low, middle, high).reshape(shape)


def _check(scores: Tensor, targets: Tensor, metric: str) -> None:
    if metric not in METRICS:
        raise ArgumentError(f"metric must be one of {', '.join(METRICS)}; got {metric!r}")
    if scores.dim() not in (1, 2) or scores.shape != targets.shape:
        raise ArgumentError(
            "scores and targets must both be [N] or [N, classes]; "
            f"got {describe(scores)} and {describe(targets)}"
        )
    if not scores.numel():
        raise ArgumentError(f"scores must have a sample and a class, got {describe(scores)}")
    if scores.isnan().any():
        raise ArgumentError(
            f"scores {describe(scores)} has NaN: a model that diverged, or a bad input"
        )
    if not ((targets == 0) | (targets == 1)).all():
        raise ArgumentError(f"targets must be 0 or 1, got {targets.unique().tolist()}")
