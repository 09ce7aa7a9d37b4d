"""One answer from the probabilities of several models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cvperf.errors import ArgumentError, describe

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression


def combine(
    probabilities: Tensor,
    how: Literal["mean", "vote", "weighted"] = "mean",
    weights: Sequence[float] | Tensor | None = None,
) -> Tensor:
    """The probabilities of an ensemble.

    Args:
        probabilities: float [members, N, classes].
        how: "mean"; "vote", one vote a member for its likeliest class, ties to the class with the
            higher mean probability (one label a sample only); or "weighted", the mean by
            ``weights``.
        weights: of the members, 0 or more, for "weighted": accuracies on held-out samples, or what
            boosting gives.

    Returns:
        float [N, classes]; each row sums to 1 where those of the members do.

    Raises:
        ArgumentError: a shape does not fit, there is no member, a probability is outside [0, 1],
            or the weights do not fit.
    """
    _check(probabilities)
    if how not in ("mean", "vote", "weighted"):
        raise ArgumentError(f'how must be "mean", "vote" or "weighted", got {how!r}')
    if (how == "weighted") != (weights is not None):
        raise ArgumentError(f'weights go with how="weighted"; got how={how!r}, weights={weights!r}')
    if how == "mean":
        return probabilities.mean(0)
    if how == "vote":
        members, _, classes = probabilities.shape
        votes = F.one_hot(probabilities.argmax(2), classes).to(probabilities.dtype).sum(0)
        # Half a vote is divided by the mean: enough to part a tie, too little to turn a majority.
        return (votes + probabilities.mean(0) / 2) / (members + 0.5)
    return torch.einsum("m,mnc->nc", _shares(weights, probabilities), probabilities)


class Stacking:
    """A logistic regression over the members' log-probabilities (Wolpert 1992).

    Fit it on samples that no member was trained on. scikit-learn does the work.

    Args:
        strength: of the pull of the weights towards 0, scikit-learn's 1 / C.
    """

    def __init__(self, strength: float = 1.0) -> None:
        if not strength > 0:
            raise ArgumentError(f"strength must be above 0, got {strength!r}")
        self._strength = strength
        self._model: LogisticRegression | None = None
        self._shape = (0, 0)

    def fit(self, probabilities: Tensor, targets: Tensor) -> Stacking:
        """Learn how to weigh the members; returns itself.

        Args:
            probabilities: float [members, N, classes].
            targets: int64 [N], of two classes or more.

        Raises:
            ArgumentError: a shape does not fit, or all targets are of one class.
        """
        from sklearn.linear_model import LogisticRegression

        features = _features(probabilities)
        members, samples, classes = probabilities.shape
        if targets.shape != (samples,):
            raise ArgumentError(f"targets must be [{samples}], got {describe(targets)}")
        if len(targets.unique()) < 2:
            raise ArgumentError(
                f"stacking learns from two classes or more, got {targets.unique().tolist()}"
            )
        model = LogisticRegression(C=1 / self._strength, max_iter=1000)
        self._model = model.fit(features.numpy(), targets.cpu().numpy())
        self._shape = (members, classes)
        return self

    def __call__(self, probabilities: Tensor) -> Tensor:
        """The ensemble's probabilities.

        Args:
            probabilities: float [members, N, classes] of the members it was fitted on.

        Returns:
            float [N, classes]; 0 for a class that no target was of.

        Raises:
            ArgumentError: it is not fitted, or the shape is not that of the fit.
        """
        members, classes = self._shape
        if self._model is None:
            raise ArgumentError("call fit() before the stacking is used")
        features = _features(probabilities)
        if (probabilities.shape[0], probabilities.shape[2]) != self._shape:
            raise ArgumentError(
                f"probabilities must be [{members}, N, {classes}], as in fit(); "
                f"got {describe(probabilities)}"
            )
        found = torch.zeros(len(features), classes, dtype=torch.float64)
        found[:, torch.as_tensor(self._model.classes_)] = torch.from_numpy(
            self._model.predict_proba(features.numpy())
        )
        return found.to(probabilities)


def _features(probabilities: Tensor) -> Tensor:
    """Log-probabilities [N, members x classes], float64 on the CPU."""
    _check(probabilities)
    logs = probabilities.detach().double().cpu().clamp(min=1e-7).log()
    return logs.permute(1, 0, 2).flatten(1)


def _shares(weights: Sequence[float] | Tensor | None, probabilities: Tensor) -> Tensor:
    shares = torch.as_tensor(weights).to(probabilities)
    members = len(probabilities)
    if shares.shape != (members,) or not (shares >= 0).all() or not shares.sum() > 0:
        raise ArgumentError(
            f"weights must be {members} numbers of 0 or more, not all 0; got {weights!r}"
        )
    return shares / shares.sum()


def _check(probabilities: Tensor) -> None:
    if probabilities.dim() != 3 or not len(probabilities):
        raise ArgumentError(
            "probabilities must be [members, N, classes] with a member; "
            f"got {describe(probabilities)}"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ArgumentError(
            f"probabilities {describe(probabilities)} must be in [0, 1]: "
            "apply softmax or sigmoid to logits first"
        )
