"""A recipe several times: means, a deviation, and nothing trained twice."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from cvperf.errors import ArgumentError
from cvperf.train.recipe import Data, Model, Recipe, Repeat
from cvperf.train.repeat import carry_out
from cvperf.train.run import train

pytestmark = pytest.mark.usefixtures("one_thread")

ONCE = Recipe(
    data=Data("digits", holdout=0.1, limit=128),
    model=Model("small_cnn", {"widths": [8]}),
    epochs=1,
    batch_size=32,
    seed=3,
)
TWICE = replace(ONCE, repeat=Repeat(2))


def test_figures_are_means_over_the_seeds(tmp_path: Path) -> None:
    figures = carry_out(TWICE, "digits", tmp_path / "both").figures
    singles = [
        train(replace(ONCE, seed=seed), "digits", tmp_path / str(seed)).figures["accuracy"]
        for seed in (3, 4)
    ]
    assert figures["accuracy"] == statistics.fmean(singles)
    assert figures["accuracy_sd"] == statistics.stdev(singles)
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == [
        "result.json",
        "seed-3",
        "seed-4",
    ]

    before = (tmp_path / "both/seed-3/last.ckpt").stat().st_mtime_ns
    assert carry_out(TWICE, "digits", tmp_path / "both").figures == figures
    assert (tmp_path / "both/seed-3/last.ckpt").stat().st_mtime_ns == before


def test_an_option_that_is_not_set_starts_at_nought(tmp_path: Path) -> None:
    recipe = replace(TWICE, repeat=Repeat(2, "model.options.dropout"))
    carry_out(recipe, "digits", tmp_path)
    assert (tmp_path / "model.options.dropout-1").is_dir()


def test_a_key_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="must be a key of a whole number"):
        carry_out(replace(TWICE, repeat=Repeat(2, "data.name")), "digits", tmp_path)
