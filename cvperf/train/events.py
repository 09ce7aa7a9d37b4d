"""A run's figures for TensorBoard: ``tensorboard --logdir runs``."""

from __future__ import annotations

from pathlib import Path

from lightning_fabric import Fabric
from torch.utils.tensorboard import SummaryWriter

from cvperf.train.loop import Observer, Run


class Events(Observer):
    """Writes each epoch's figures as TensorBoard's events; rank 0 does.

    Args:
        fabric: launched.
        folder: where the event files are put.
        step: what a run that was stopped has logged beyond this step is dropped.
    """

    def __init__(self, fabric: Fabric, folder: Path, step: int) -> None:
        first = fabric.is_global_zero
        self._writer = SummaryWriter(str(folder), purge_step=step + 1) if first else None

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def epoch_done(self, run: Run, best: bool) -> None:
        """Logs them at the run's step."""
        if self._writer is None:
            return
        line = run.history[-1]
        self._writer.add_scalar("lr", line["lr"], run.step)
        for part in ("train", "validation"):
            for name, value in line[part].items():
                self._writer.add_scalar(f"{name}/{part}", value, run.step)
