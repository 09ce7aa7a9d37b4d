"""Several models for one recipe, and their answers combined."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cvperf.data import ImageSet
from cvperf.errors import ArgumentError
from cvperf.eval import Classification, Stacking, combine
from cvperf.train import folder, sets
from cvperf.train.fabric import launched
from cvperf.train.finished import probabilities
from cvperf.train.recipe import Ensemble, Recipe
from cvperf.train.run import Outcome, train

KINDS = ("average", "vote", "bagging", "stacking", "boosting")


def train_ensemble(recipe: Recipe, name: str, path: Path | None = None) -> Outcome:
    """Train ``recipe.ensemble.members`` models and combine them.

    Each member is a run of its own in ``<path>/member-<n>``, with its own seed; one that is
    finished is not trained again.

    Args:
        recipe: of one class an image.
        name: of the recipe, for the folder.
        path: of the ensemble's folder.

    Returns:
        Figures of the combination on the test images; ``accuracy_best_single`` and
        ``accuracy_mean_single`` are those of the members.

    Raises:
        ArgumentError: the kind is unknown, or a section does not fit.
    """
    started = time.perf_counter()
    kind = recipe.ensemble.kind
    if kind not in KINDS:
        raise ArgumentError(f"unknown ensemble.kind {kind!r}; known: {', '.join(KINDS)}")
    where = path or folder.new(name, launched(recipe.precision))
    images = sets.load(recipe.data, recipe.seed, recipe.adapt)
    boost = Boosting(sets.labels_of(images.train), len(images.train.classes))
    members = []
    for index in range(recipe.ensemble.members):
        member = where / f"member-{index}"
        one = _member(recipe, index)
        train(one, name, member, weights=boost.weights if kind == "boosting" else None)
        members.append(member)
        if kind == "boosting":
            boost.saw(probabilities(member, images, images.plain).argmax(1))
    test = images.test or images.validation
    found = torch.stack([probabilities(member, images, test) for member in members])
    combined = _combined(kind, found, members, images, boost)
    figures = _figures(combined, found, test)
    seconds = time.perf_counter() - started
    folder.write_result(where, {"recipe": name, **figures, "seconds": seconds})
    return Outcome(figures, seconds, where)


def _member(recipe: Recipe, index: int) -> Recipe:
    change = replace(recipe.data.change, bootstrap=recipe.ensemble.kind == "bagging")
    data = replace(recipe.data, change=change)
    return replace(recipe, data=data, seed=recipe.seed + index, ensemble=Ensemble())


def _combined(
    kind: str, found: Tensor, members: Sequence[Path], images: sets.Sets, boost: Boosting
) -> Tensor:
    """float [N, classes] of float [members, N, classes]."""
    if kind == "vote":
        return combine(found, "vote")
    if kind == "boosting":
        return combine(found, "weighted", boost.votes)
    if kind != "stacking":
        return combine(found)
    held = torch.stack([probabilities(member, images, images.validation) for member in members])
    return Stacking().fit(held, sets.labels_of(images.validation))(found)


def _figures(combined: Tensor, found: Tensor, test: ImageSet) -> dict[str, float]:
    truth = sets.labels_of(test)
    metrics = Classification(test.classes)
    metrics.update(combined.clamp_min(1e-12).log().float(), truth)
    single = (found.argmax(2) == truth).double().mean(1)
    best, mean = float(single.max()), float(single.mean())
    return {**metrics.compute(), "accuracy_best_single": best, "accuracy_mean_single": mean}


class Boosting:
    """Which images the next member should see more often, and how much each member's vote counts.

    Args:
        labels: int64 [N] of the training images.
        classes: how many.

    Attributes:
        weights: float64 [N], sum 1.
        votes: of each member so far.

    Source: Zhu et al., "Multi-class AdaBoost" (SAMME), 2009, by sampling.
    """

    def __init__(self, labels: Tensor, classes: int) -> None:
        self._labels, self._classes = labels, classes
        self.weights = torch.full((len(labels),), 1 / len(labels), dtype=torch.float64)
        self.votes: list[float] = []

    def saw(self, answers: Tensor) -> None:
        """Take a member's answers on the training images, int64 [N].

        A member that is worse than chance gets no vote, and the weights start anew.
        """
        wrong = answers != self._labels
        # A member without error would have all the votes.
        error = float(self.weights[wrong].sum().clamp(1e-6, 1 - 1e-6))
        vote = math.log((1 - error) / error) + math.log(self._classes - 1)
        self.votes.append(max(vote, 0.0))
        if vote <= 0:
            self.weights.fill_(1 / len(self.weights))
            return
        self.weights *= torch.where(wrong, math.exp(vote), 1.0)
        self.weights /= self.weights.sum()
