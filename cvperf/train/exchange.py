"""What the processes of a run send each other: a recipe's section ``processes`` carried out."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric
from torch import nn

from cvperf.data import Batch
from cvperf.errors import ArgumentError
from cvperf.train.distributed.averaging import Averaging, LocalSGD
from cvperf.train.distributed.compression import Compression, compress
from cvperf.train.distributed.traffic import Traffic
from cvperf.train.loop import Observer, Run
from cvperf.train.recipe import Recipe


def check(recipe: Recipe) -> None:
    """Refuse what does not go together.

    Raises:
        ArgumentError: two ways to exchange at once, or an average of weights that differ.
    """
    asked = recipe.processes
    ways = {
        "processes.compress": asked.compress != "none",
        "processes.average_every": asked.average_every > 0,
        "processes.shard": asked.shard,
    }
    chosen = [name for name, wanted in ways.items() if wanted]
    if len(chosen) > 1:
        raise ArgumentError(f"{' and '.join(chosen)} exclude each other: choose one")
    if recipe.average and (asked.shard or asked.average_every):
        raise ArgumentError(
            f"average={recipe.average} needs the whole weights after each step, which no process "
            f"has with {chosen[0]}: set average=0"
        )


class Exchange(Observer):
    """Compresses gradients or averages weights, and counts the bytes.

    Args:
        fabric: launched; with one process there is nothing to do.
        recipe: its section ``processes``.
        model: as Fabric set it up.

    Raises:
        ArgumentError: a value of the section is none that there is.
    """

    def __init__(self, fabric: Fabric, recipe: Recipe, model: nn.Module) -> None:
        asked = recipe.processes
        self._fabric, self._model = fabric, model
        self._local: LocalSGD | None = None
        self.traffic: Traffic | None = None
        """Of this process since it started; None where nothing is saved."""
        if fabric.world_size == 1:
            return
        if asked.average_every:
            averaging = Averaging(asked.average_every, asked.average_after)
            self._local = LocalSGD(model, averaging)
            self.traffic = self._local.traffic
        elif asked.compress != "none":
            how = Compression(
                asked.compress,  # type: ignore[arg-type]  # checked there
                asked.rank,
                asked.compress_after,
                asked.factors,  # type: ignore[arg-type]
            )
            self.traffic = compress(model, how).traffic

    def step_done(self, run: Run, batch: Batch) -> None:
        """Averages, if it is time."""
        if self._local is not None:
            self._local.after_step()

    def settle(self) -> None:
        """Give all processes one model: before validation, and before what is kept of an epoch.

        The statistics of batch norm, which each has of its own images, become their mean.
        """
        if self._local is not None:
            self._local.average()
        elif self._fabric.world_size > 1:
            for buffer in self._model.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(self._fabric.all_reduce(buffer.clone()))  # type: ignore[arg-type]

    def figures(self) -> dict[str, float]:
        """``sent_mb`` by this process, and ``gradients_mb``, what it would have been."""
        if self.traffic is None:
            return {}
        return {
            "gradients_mb": self.traffic.gradients / 1e6,
            "sent_mb": self.traffic.payload / 1e6,
        }


def agreed(fabric: Fabric, recipe: Recipe, here: bool) -> bool:
    """Whether to write a checkpoint, which takes all processes if each has a part of the model."""
    if not recipe.processes.shard or fabric.world_size == 1:
        return here
    any_here = torch.tensor(float(here), device=fabric.device)
    return bool(fabric.all_reduce(any_here, reduce_op="max"))
