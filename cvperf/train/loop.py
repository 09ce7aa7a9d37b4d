"""The training loop, to be read from top to bottom.

An epoch is: for each batch forward, loss, backward, update; then validate, and keep a checkpoint.
Lightning Fabric moves tensors, casts them and talks to the other processes; nothing else is hidden.

The random numbers of a step are drawn from (seed, step), and the batches from (seed, epoch), so a
run that is stopped and resumed computes what it would have computed, bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from cvperf.data import Batch
from cvperf.errors import ArgumentError
from cvperf.train import schedules
from cvperf.train.average import Average
from cvperf.train.best import Best
from cvperf.train.memory import halved, ran_out
from cvperf.train.recipe import Recipe

Objective = Callable[[nn.Module, Any, Any], Mapping[str, Tensor]]
"""(model, images, targets) -> losses by name, float [], each a mean over the images; their sum is
what a step makes smaller."""
Validate = Callable[[nn.Module], dict[str, float]]
"""Model in evaluation mode -> its figures, the same in every process."""


class Loader(Sized, Protocol):
    """Training batches of any epoch, from any batch on."""

    def start(self, epoch: int, batch: int) -> None: ...

    def __iter__(self) -> Iterator[Batch]: ...


@dataclass
class Run:
    """All that training changes: a checkpoint is this and nothing besides.

    Attributes:
        model, optimizer: as Fabric set them up.
        schedule: stepped after each step of the optimiser.
        average: of the weights; None without.
        best: the best validation figure so far.
        epoch: epochs that are done.
        batch: batches of the current epoch that are done.
        step: steps of the optimiser, ever.
        parts: in how many parts a batch is computed.
        losses: sums of the current epoch's losses by name, float64 [].
        history: figures of each epoch that is done.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    average: Average | None
    best: Best
    epoch: int = 0
    batch: int = 0
    step: int = 0
    parts: int = 1
    losses: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def validated(self) -> nn.Module:
        """The model whose figures count: the average of the weights, where there is one."""
        return self.model if self.average is None else self.average.module


class Observer:
    """Hears how a run goes: progress, logs, checkpoints. A subclass listens to what it wants."""

    def step_done(self, run: Run, batch: Batch) -> None:
        """After each batch of an epoch."""

    def epoch_done(self, run: Run, best: bool) -> None:
        """After each validation; ``best``: its figure is the best so far."""


def fit(
    fabric: Fabric,
    run: Run,
    recipe: Recipe,
    batches: Loader,
    objective: Objective,
    validate: Validate,
    observers: Sequence[Observer],
) -> None:
    """Train until ``recipe.epochs`` are done, or ``recipe.watch`` sees no hope.

    Args:
        fabric: launched.
        run: fresh, or as a checkpoint left it; changed in place.
        recipe: of its sections the loop reads ``optimizer``, ``schedule`` and ``watch``.
        batches: of the training images.
        objective: what a step makes smaller.
        validate: called after each epoch.
        observers: called after each step and each epoch.
    """
    while run.epoch < recipe.epochs and not run.best.hopeless:
        started = time.perf_counter()
        batches.start(run.epoch, run.batch)
        run.model.train()
        for batch in batches:
            seed_step(fabric, recipe.seed, run.step)
            if sound(fabric, batch):
                found = train_step(fabric, run, batch, objective, recipe.optimizer.clip)
                run.losses = added(run.losses, found)
            run.step, run.batch = run.step + 1, run.batch + 1
            for observer in observers:
                observer.step_done(run, batch)

        run.validated.eval()
        with torch.no_grad():
            figures = validate(run.validated)
        losses = mean_losses(fabric, run)
        line = {"epoch": run.epoch + 1, "step": run.step, "lr": run.schedule.get_last_lr()[0]}
        seconds = time.perf_counter() - started
        run.history.append({**line, "seconds": seconds, "train": losses, "validation": figures})

        best = run.best.seen(figures)
        schedules.after_epoch(recipe.schedule, run.schedule, run.best.since)
        run.epoch, run.batch, run.losses = run.epoch + 1, 0, {}
        for observer in observers:
            observer.epoch_done(run, best)


def sound(fabric: Fabric, batch: Batch) -> bool:
    """Whether any image of the batch could be read.

    Raises:
        ArgumentError: none could, and other processes wait for this one's gradient.
    """
    if len(batch.images) == 0 and fabric.world_size > 1:
        first = batch.broken[0]
        raise ArgumentError(
            f"no image of this process's share of a batch can be read, {first.path} for one "
            f"({first.reason}): remove the broken files, or take larger batches"
        )
    return len(batch.images) > 0


def train_step(
    fabric: Fabric, run: Run, batch: Batch, objective: Objective, clip: float
) -> dict[str, Tensor]:
    """Forward, loss, backward, update. Returns the batch's mean losses by name, float64 [].

    Where the memory does not suffice for the batch it is computed in twice as many parts, from
    then on. (Batch norm's running statistics have then seen the part that did not fit once more.)
    """
    while True:
        try:
            run.optimizer.zero_grad()
            losses = forward_backward(fabric, run.model, batch, objective, run.parts)
            break
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                raise
            run.parts = halved(fabric, run.parts, len(batch.images), error)
    if clip:
        fabric.clip_gradients(run.model, run.optimizer, max_norm=clip)
    run.optimizer.step()
    run.schedule.step()
    if run.average is not None:
        run.average.update(run.model)
    return losses


def forward_backward(
    fabric: Fabric, model: nn.Module, batch: Batch, objective: Objective, parts: int
) -> dict[str, Tensor]:
    """Adds the gradient of the batch's mean loss, computed in parts, to ``.grad``."""
    total: dict[str, Tensor] = {}
    pieces = batch.parts(parts)
    for index, (images, targets, _) in enumerate(pieces):
        last = index + 1 == len(pieces)
        share = len(images) / len(batch.images)
        # Processes exchange gradients once a batch, not once a part.
        with fabric.no_backward_sync(cast(_FabricModule, model), enabled=not last):
            losses = objective(model, images, targets)
            fabric.backward(torch.stack(list(losses.values())).sum() * share)
        total = added(total, {name: loss * share for name, loss in losses.items()})
    return total


def added(sums: Mapping[str, Tensor], losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``sums`` with ``losses`` added by name: float64 [], on the CPU."""
    more = {name: loss.detach().double().cpu() for name, loss in losses.items()}
    return {**sums, **{name: sums.get(name, 0) + loss for name, loss in more.items()}}


def mean_losses(fabric: Fabric, run: Run) -> dict[str, float]:
    """Means over the epoch's batches and all processes; ``loss`` is the sum of all."""
    means = {name: total / max(run.batch, 1) for name, total in run.losses.items()}
    losses = {name: float(cast(Tensor, fabric.all_reduce(mean))) for name, mean in means.items()}
    return {"loss": sum(losses.values()), **losses}


def seed_step(fabric: Fabric, seed: int, step: int) -> None:
    """Make this step's random numbers (dropout, mixup) a matter of seed, step and process alone."""
    number = (seed * 1_000_003 + step) * 4099 + fabric.global_rank
    # Not torch.manual_seed, which takes down the stack for each kind of GPU that there might be.
    torch.default_generator.manual_seed(number)
    if fabric.device.type == "cuda":
        torch.cuda.manual_seed(number)
