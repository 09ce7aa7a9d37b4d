"""What the commands ``cvperf train``, ``cvperf evaluate`` and ``cvperf tune`` do."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cvperf.data.packages import PackageError
from cvperf.errors import ArgumentError
from cvperf.train import catalogue
from cvperf.train.finished import evaluate
from cvperf.train.repeat import carry_out
from cvperf.train.tune import tune

ERRORS = (ArgumentError, FileNotFoundError, ImportError, PackageError)
"""Those that carry their own way out."""


def show_recipes() -> None:
    """A table of the recipes that ship, with what they take."""
    table = Table("recipe", "what it does", "cost")
    for name in catalogue.names():
        recipe = catalogue.load(name)
        table.add_row(name, recipe.about, recipe.cost)
    Console().print(table)


def run_recipe(name: str, changes: Sequence[str], path: Path | None) -> None:
    """Train, and print one line of JSON: figures, seconds and the run's folder."""
    recipe = catalogue.load(name, changes)
    outcome = carry_out(recipe, name, path)
    tell({"recipe": name, **outcome.figures, "seconds": outcome.seconds, "run": str(outcome.path)})


def run_evaluate(path: Path, split: str, changes: Sequence[str] = ()) -> None:
    """Figures of a run's best model, as one line of JSON.

    Of a change ``key=a|b|c`` every value has its turn, and each figure is a list, a curve, with
    None where a value has no such figure.

    Raises:
        ArgumentError: there are two such changes, or :func:`evaluate` raises it.
    """
    started = time.perf_counter()
    several = [change for change in changes if "|" in change.partition("=")[2]]
    fixed = [change for change in changes if change not in several]
    if len(several) > 1:
        raise ArgumentError(
            f"one key at a time may have several values, got {' and '.join(several)}"
        )
    found: dict[str, Any]
    if several:
        key, _, text = several[0].partition("=")
        values = text.split("|")
        turns = [evaluate(path, split, [*fixed, f"{key}={value}"]) for value in values]
        names = dict.fromkeys(name for one in turns for name in one)
        # What no object is of has no figure: none of 50 pixels where all are half hidden.
        found = {key: values, **{name: [one.get(name) for one in turns] for name in names}}
    else:
        found = dict(evaluate(path, split, fixed))
    tell({**found, "seconds": time.perf_counter() - started, "run": str(path)})


def run_tune(name: str, changes: Sequence[str], trials: int, path: Path) -> None:
    """Search, and print one line of JSON: the best figure, its values and the folder."""
    started = time.perf_counter()
    best, values = tune(name, changes, trials, path)
    seconds = time.perf_counter() - started
    tell({"recipe": name, "best": best, "values": values, "seconds": seconds, "run": str(path)})


def tell(result: Mapping[str, Any]) -> None:
    """One line on standard output, from one of the processes."""
    if int(os.environ.get("RANK", "0")) == 0:
        print(json.dumps(result), flush=True)
