"""The probability from which a class counts as present, chosen on the validation images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cvperf.data import Batch
from cvperf.errors import ArgumentError
from cvperf.eval import Classification, Regression, tune_thresholds
from cvperf.eval.thresholds import METRICS
from cvperf.train.sets import Sets

REPORTED = ("accuracy", "precision", "recall", "f1")
"""Figures that thresholds change; areas under curves have none."""
Seen = Callable[[Tensor, Batch], None]
"""Called with the answers of each batch."""


def check(metric: str, judged_by: Classification | Regression, images: Sets) -> None:
    """See that thresholds can be tuned, before a run has cost anything.

    Args:
        metric: of ``thresholds.tune``; empty: they are not.
        judged_by: the metrics of the run.
        images: its sets.

    Raises:
        ArgumentError: the metric is unknown, images have one class each, or there are no others to
            test the thresholds on.
    """
    if not metric:
        return
    if metric not in METRICS:
        known = ", ".join(METRICS)
        raise ArgumentError(f"thresholds.tune must be one of {known}; got {metric!r}")
    if not isinstance(judged_by, Classification) or judged_by.kind != "multi":
        raise ArgumentError("thresholds.tune needs images that may have several classes each")
    if images.test is None:
        raise ArgumentError(
            "thresholds.tune takes the validation images, which say nothing of its thresholds "
            "then: name other images in data.test"
        )


class Answers:
    """Keeps probabilities and targets; of every process once they are asked for."""

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, Tensor]] = []

    def __call__(self, answers: Tensor, batch: Batch) -> None:
        self._kept.append((answers.sigmoid().cpu(), batch.targets.cpu()))

    def tuned(self, metric: str) -> Tensor:
        """float64 [classes]: the best thresholds for ``metric``."""
        kept = [self._kept]
        if torch.distributed.is_initialized():
            kept *= torch.distributed.get_world_size()
            torch.distributed.all_gather_object(kept, self._kept)
        scores, targets = zip(*(pair for process in kept for pair in process), strict=True)
        return tune_thresholds(torch.cat(scores), torch.cat(targets), metric)


def figures(tuned: Classification, thresholds: Tensor) -> dict[str, float]:
    """``tuned_f1`` and so on, and ``threshold/NAME`` of each class."""
    found = tuned.compute()
    each = zip(tuned.classes, thresholds.tolist(), strict=True)
    return {f"tuned_{name}": found[name] for name in REPORTED if name in found} | {
        f"threshold/{name}": value for name, value in each
    }
