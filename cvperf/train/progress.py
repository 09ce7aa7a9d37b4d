"""What a run shows while it goes: a bar for each epoch, or a line where there is no terminal."""

from __future__ import annotations

import math
import sys

from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

import cvperf
from cvperf.data import Batch
from cvperf.train.loop import Observer, Run

_SHOWN = ("loss", "accuracy", "f1", "map", "mae", "ap", "ap50", "mask_ap50")


class Bars(Observer):
    """On standard error, so that standard output has the result alone; of rank 0 only."""

    def __init__(self, fabric: Fabric, epochs: int, steps: int) -> None:
        console = Console(stderr=True)
        self._quiet = not fabric.is_global_zero
        self._bars = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=self._quiet or not console.is_terminal,
            transient=True,
        )
        self._epochs = epochs
        self._task = self._bars.add_task("", total=steps, epoch="", loss="")

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def step_done(self, run: Run, batch: Batch) -> None:
        """Moves the bar."""
        loss = f"{float(sum(run.losses.values())) / run.batch:.3f}"
        epoch = f"{run.epoch + 1}/{self._epochs}"
        self._bars.update(self._task, completed=run.batch, epoch=epoch, loss=loss)

    def epoch_done(self, run: Run, best: bool) -> None:
        """A line with the epoch's figures."""
        if self._quiet:
            return
        line = run.history[-1]
        shown = {n: line["validation"][n] for n in _SHOWN if n in line["validation"]}
        figures = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
        mark = "  best so far" if best else ""
        covered = cvperf.explain().covered
        ours = "" if math.isnan(covered) else f"; {covered:.0%} of the products on our kernels"
        print(
            f"epoch {line['epoch']}/{self._epochs}: {line['seconds']:.1f} s, "
            f"train loss {line['train']['loss']:.4g}; validation {figures}{ours}{mark}",
            file=sys.stderr,
            flush=True,
        )
