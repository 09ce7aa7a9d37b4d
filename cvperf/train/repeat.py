"""A recipe carried out: once, as an ensemble, or several times with one key going up."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from omegaconf import OmegaConf

from cvperf.errors import ArgumentError
from cvperf.train import catalogue, folder
from cvperf.train.ensemble import train_ensemble
from cvperf.train.fabric import launched
from cvperf.train.recipe import Recipe, Repeat
from cvperf.train.run import Outcome, train


def carry_out(recipe: Recipe, name: str, path: Path | None = None) -> Outcome:
    """Do what a recipe says; arguments, errors and result are those of ``train``."""
    if recipe.repeat.times > 1:
        return _repeated(recipe, name, path)
    return (train_ensemble if recipe.ensemble.members > 1 else train)(recipe, name, path)


def _repeated(recipe: Recipe, name: str, path: Path | None) -> Outcome:
    """Means over the runs, each in a folder of its own; ``<figure>_sd`` is the deviation of
    ``watch.figure``. A run that is finished is not trained again."""
    started = time.perf_counter()
    where = path or folder.new(name, launched(recipe.precision))
    found = [carry_out(one, name, where / part).figures for part, one in _variants(recipe)]
    figures = {key: statistics.fmean(run[key] for run in found) for key in found[0]}
    watched = recipe.watch.figure
    figures[f"{watched}_sd"] = statistics.stdev(run[watched] for run in found)
    seconds = time.perf_counter() - started
    folder.write_result(where, {"recipe": name, **figures, "seconds": seconds})
    return Outcome(figures, seconds, where)


def _variants(recipe: Recipe) -> Iterator[tuple[str, Recipe]]:
    """``<key>-<value>`` and the recipe with that value, from the one it has, or 0, upwards."""
    key = recipe.repeat.key
    once = OmegaConf.structured(replace(recipe, repeat=Repeat()))
    first = OmegaConf.select(once, key, default=0)
    if not isinstance(first, int):
        raise ArgumentError(f"repeat.key {key!r} must be a key of a whole number; it is {first!r}")
    for value in range(first, first + recipe.repeat.times):
        OmegaConf.update(once, key, value, force_add=key.startswith(("data.options", "model.opt")))
        yield f"{key}-{value}", catalogue.from_mapping(once)
