"""Several models for one recipe."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from cvperf.errors import ArgumentError
from cvperf.train import catalogue
from cvperf.train.ensemble import Boosting, train_ensemble
from cvperf.train.recipe import Data, Ensemble, Model, Optimizer, Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(
    data=Data("digits", holdout=0.2, limit=300),
    model=Model("small_cnn", {"widths": [16, 16]}),
    optimizer=Optimizer("adamw", 0.02),
    epochs=4,
    batch_size=32,
    kernels=[],
)


@pytest.mark.parametrize("kind", ["bagging", "stacking", "boosting"])
def test_members_are_trained_and_combined(kind, tmp_path):
    outcome = train_ensemble(replace(RECIPE, ensemble=Ensemble(2, kind)), "digits", tmp_path)
    figures = outcome.figures
    assert figures["accuracy"] > 0.3
    assert figures["accuracy_best_single"] >= figures["accuracy_mean_single"]
    recipes = [catalogue.load(tmp_path / f"member-{i}" / "recipe.yaml") for i in range(2)]
    assert [one.seed for one in recipes] == [0, 1]
    assert all(one.data.change.bootstrap == (kind == "bagging") for one in recipes)
    assert (tmp_path / "result.json").exists()


def test_an_unknown_kind_names_the_known_ones(tmp_path):
    with pytest.raises(ArgumentError, match="average, vote, bagging, stacking, boosting"):
        train_ensemble(replace(RECIPE, ensemble=Ensemble(2, "sum")), "digits", tmp_path)


def test_boosting_draws_what_was_wrong_more_often():
    boost = Boosting(torch.tensor([0, 1, 2, 0]), 3)
    boost.saw(torch.tensor([0, 1, 2, 1]))  # one of four is wrong
    vote = math.log(3) + math.log(2)
    assert boost.votes == [pytest.approx(vote)]
    right, wrong = 1 / (3 + math.exp(vote)), math.exp(vote) / (3 + math.exp(vote))
    assert boost.weights.tolist() == pytest.approx([right] * 3 + [wrong])


def test_a_member_worse_than_chance_has_no_vote():
    boost = Boosting(torch.tensor([0, 1, 2, 0]), 3)
    boost.saw(torch.tensor([1, 2, 0, 1]))
    assert boost.votes == [0.0]
    assert boost.weights.tolist() == [0.25] * 4
