"""From a recipe's sections to the things a run is made of."""

from __future__ import annotations

from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cvperf.models import load_weights
from cvperf.train import optimizers, schedules, sets
from cvperf.train.average import Average
from cvperf.train.batches import ShuffledBatches
from cvperf.train.best import Best
from cvperf.train.checkpoint import unwrapped
from cvperf.train.loader import TrainingLoader
from cvperf.train.loop import Run
from cvperf.train.recipe import Recipe
from cvperf.train.tasks.known import task_of


def model_of(recipe: Recipe, images: sets.Sets) -> nn.Module:
    """The network of a recipe, for the classes and channels of its images, on the CPU."""
    model = task_of(recipe).network(recipe, images)
    if recipe.model.weights:
        load_weights(model, recipe.model.weights)
    if recipe.model.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return model


def run_of(fabric: Fabric, recipe: Recipe, model: nn.Module, steps: int) -> Run:
    """A run at its start; ``steps`` are an epoch."""
    still = optimizers.freeze(model, recipe.model.freeze)
    average = Average(model.to(fabric.device), recipe.average) if recipe.average else None
    ready = fabric.setup_module(model)
    # After the model, whose parameters are other ones once they are split among processes.
    optimizer = optimizers.build(recipe.optimizer, unwrapped(ready))
    moving = cast(torch.optim.Optimizer, fabric.setup_optimizers(optimizer))
    schedule = schedules.by_step(recipe.schedule, optimizer, steps, recipe.epochs)
    for norm in still:
        norm.eval()
        norm.train = lambda mode=True, norm=norm: norm  # type: ignore[method-assign,misc]
    return Run(ready, moving, schedule, average, Best(recipe.watch), parts=recipe.optimizer.parts)


def loader_of(
    fabric: Fabric, recipe: Recipe, images: sets.Sets, weights: Tensor | None = None
) -> TrainingLoader:
    """The training batches of this process; ``weights`` as ``ShuffledBatches`` takes them."""
    batches = ShuffledBatches(
        len(images.train),
        recipe.batch_size,
        recipe.seed,
        rank=fabric.global_rank,
        world=fabric.world_size,
        weights=weights,
    )
    return TrainingLoader(images.train, batches, fabric.device, recipe.data.workers)
