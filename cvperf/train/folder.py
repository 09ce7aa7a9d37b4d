"""A run's folder: its recipe, a line an epoch, checkpoints, TensorBoard's events, the report."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from cvperf import files
from cvperf.data import Batch
from cvperf.errors import ArgumentError
from cvperf.train import catalogue, checkpoint
from cvperf.train.exchange import agreed
from cvperf.train.loop import Observer, Run
from cvperf.train.recipe import Recipe
from cvperf.train.report import write as write_report


class RunFolder(Observer):
    """Writes what a run leaves behind; the process of rank 0 does, the others only follow.

    Args:
        path: the folder; made if it is not there.
        recipe: of the run; another one in the folder is an error.
        fabric: launched.

    Raises:
        ArgumentError: the folder has a run of another recipe.
    """

    def __init__(self, path: Path, recipe: Recipe, fabric: Fabric) -> None:
        self.path, self._recipe, self._fabric = path, recipe, fabric
        self._text = catalogue.to_yaml(recipe)
        self._saved = time.monotonic()
        if fabric.is_global_zero:
            self._claim()
        fabric.barrier()

    @property
    def last(self) -> Path:
        return self.path / "last.ckpt"

    @property
    def best(self) -> Path:
        return self.path / "best.ckpt"

    def _claim(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        recipe = self.path / "recipe.yaml"
        if recipe.exists() and recipe.read_text() != self._text:
            raise ArgumentError(
                f"{self.path} has a run of another recipe (its recipe.yaml); take another folder"
            )
        files.replace(recipe, self._text)

    def resume(self, run: Run) -> bool:
        """Put a run where the folder's last checkpoint left it; whether there is one."""
        if not self.last.exists():
            return False
        checkpoint.restore(run, checkpoint.read(self.last))
        if self._fabric.is_global_zero:
            print(f"{self.path} goes on after step {run.step}", file=sys.stderr)
        return True

    def step_done(self, run: Run, batch: Batch) -> None:
        """A checkpoint within the epoch, if the last one is long ago."""
        for image in batch.broken:
            print(f"left out: {image.path}: {image.reason}", file=sys.stderr)
        due = time.monotonic() - self._saved > 60 * self._recipe.checkpoint_minutes
        if agreed(self._fabric, self._recipe, due):
            self._save(run, self.last)

    def epoch_done(self, run: Run, best: bool) -> None:
        """A line, and checkpoints."""
        self._save(run, *([self.best] if best else []), self.last)
        if self._fabric.is_global_zero:
            lines = "".join(json.dumps(line) + "\n" for line in run.history)
            files.replace(self.path / "metrics.jsonl", lines)

    def _save(self, run: Run, *paths: Path) -> None:
        state = checkpoint.state_of(run, self._text)
        if self._fabric.is_global_zero:
            for path in paths:
                checkpoint.write(path, state)
        self._saved = time.monotonic()

    def finish(self, run: Run, result: Mapping[str, Any], report: Mapping[str, Any]) -> None:
        """``result.json`` and ``report.html``; ``report`` are arguments of ``report.write``."""
        if self._fabric.is_global_zero:
            write_result(self.path, result)
            watch = self._recipe.watch
            write_report(
                self.path,
                history=run.history,
                watched=watch.figure,
                highest=watch.highest,
                **report,
            )
        self._fabric.barrier()


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """``result.json`` of a run, an ensemble or repeated runs."""
    files.replace(path / "result.json", json.dumps(result, indent=1) + "\n")


def new(recipe: str, fabric: Fabric, above: Path = Path("runs")) -> Path:
    """A folder for a new run, named by recipe and time; the same in every process.

    Where torchrun starts workers anew, it is the folder that those before them made.
    """
    here = above / recipe.removesuffix(".yaml").strip("/")
    name = f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) and here.exists():
        name = max((path.name for path in here.iterdir()), default=name)
    return here / str(fabric.broadcast(name))
