"""Whether probabilities mean what they say: calibration error, its bins, temperature scaling."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from cvperf.errors import ArgumentError, describe

_COLDEST, _HOTTEST = 0.01, 100.0


class Reliability(NamedTuple):
    """The bars of a reliability diagram; each float64 [bins], NaN in a bin without a prediction."""

    confidence: Tensor
    """The mean of the probabilities in the bin."""
    accuracy: Tensor
    """How often what they predict is true."""
    predictions: Tensor
    """How many are in the bin."""


class Calibration(Metric):
    """Expected calibration error over bins of equal width (Guo et al. 2017).

    torchmetrics has one that keeps every prediction and shows no bins; this one keeps three sums a
    bin.
    """

    full_state_update = False

    def __init__(self, bins: int = 15) -> None:
        super().__init__()
        for name in ("confidence", "correct", "count"):
            zeros = torch.zeros(bins, dtype=torch.float64)
            self.add_state(name, default=zeros, dist_reduce_fx="sum")

    def update(self, confidence: Tensor, correct: Tensor) -> None:
        """Add predictions: probabilities in [0, 1] and whether each came true, both [N]."""
        state: Any = self
        bins = len(state.count)
        # A bin holds its upper edge, as in the paper.
        places = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
        sums = torch.stack([confidence, correct, torch.ones_like(confidence)]).double()
        # A product, not index_add_, whose sums on a GPU depend on the order of arrival.
        added = sums @ F.one_hot(places, bins).double()
        state.confidence, state.correct, state.count = (
            old + new
            for old, new in zip((state.confidence, state.correct, state.count), added, strict=True)
        )

    def compute(self) -> Tensor:
        """Sums of confidences, of predictions that came true, and of predictions: [3, bins]."""
        state: Any = self
        return torch.stack([state.confidence, state.correct, state.count])


def reliability(sums: Tensor) -> Reliability:
    """The bars of what ``Calibration.compute`` gives."""
    confidence, correct, count = sums.cpu()
    return Reliability(confidence / count, correct / count, count)


def expected_error(sums: Tensor) -> float:
    """The expected calibration error of what ``Calibration.compute`` gives."""
    confidence, correct, count = sums.cpu()
    return float((confidence - correct).abs().sum() / count.sum())


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """The T for which softmax(logits / T) fits best: temperature scaling (Guo et al. 2017).

    Fit it on data that the model was not trained on. The answer's order does not change, so neither
    do accuracy and ranking.

    Args:
        logits: float [N, classes].
        targets: int64 [N].

    Returns:
        The temperature with the least cross entropy in [0.01, 100].

    Raises:
        ArgumentError: a shape does not fit, or logits are not finite.
    """
    from scipy.optimize import minimize_scalar

    if logits.dim() != 2 or not len(logits) or targets.shape != logits.shape[:1]:
        raise ArgumentError(
            "logits must be [N, classes] and targets [N] with N of 1 or more; "
            f"got {describe(logits)} and {describe(targets)}"
        )
    if not logits.isfinite().all():
        raise ArgumentError(f"logits must be finite; {describe(logits)} has NaN or infinity")
    scores, truth = logits.detach().double().cpu(), targets.cpu()

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(scores / math.exp(log_temperature), truth))

    # Convex in 1 / T, so there is one minimum.
    bounds = (math.log(_COLDEST), math.log(_HOTTEST))
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x)
