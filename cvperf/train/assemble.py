"""From a recipe's sections to the things a run is made of."""

from __future__ import annotations

from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cvperf.models import create_model, load_weights
from cvperf.train import losses, objective, optimizers, schedules, sets, thresholds
from cvperf.train.average import Average
from cvperf.train.batches import ShuffledBatches
from cvperf.train.best import Best
from cvperf.train.checkpoint import unwrapped
from cvperf.train.evaluate import metrics_for
from cvperf.train.judge import Judge
from cvperf.train.loader import TrainingLoader
from cvperf.train.loop import Run
from cvperf.train.recipe import Recipe


def model_of(recipe: Recipe, images: sets.Sets) -> nn.Module:
    """The network of a recipe, for the classes and channels of its images, on the CPU."""
    labels = sets.labels_of(images.train)
    config = recipe.model
    answers = 1 if labels.is_floating_point() and labels.dim() == 1 else len(images.train.classes)
    model = create_model(
        config.name, answers, channels=sets.channels(images.train), **config.options
    )
    if config.weights:
        load_weights(model, config.weights)
    if config.channels_last:
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


def judge_of(fabric: Fabric, recipe: Recipe, images: sets.Sets) -> Judge:
    """Judges the models of a recipe.

    Raises:
        ArgumentError: its loss or thresholds do not fit its images.
    """
    labels, classes = sets.labels_of(images.train), images.train.classes
    criterion = losses.build(recipe.loss, labels, len(classes))
    metrics = metrics_for(classes, labels)
    thresholds.check(recipe.thresholds.tune, metrics, images)
    return Judge(fabric, recipe, normalize_of(recipe), criterion, metrics)


def normalize_of(recipe: Recipe) -> objective.Normalize:
    """Pixels to what the network takes."""
    data = recipe.data
    return objective.Normalize(list(data.mean), list(data.std), recipe.model.channels_last)
