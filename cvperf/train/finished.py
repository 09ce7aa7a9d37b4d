"""Runs that are done: their models, judged again or asked for answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cvperf.data import ImageSet
from cvperf.errors import ArgumentError
from cvperf.train import assemble, catalogue, checkpoint, sets
from cvperf.train.fabric import launched
from cvperf.train.loader import in_order
from cvperf.train.objective import normalize_of
from cvperf.train.recipe import Recipe
from cvperf.train.tasks.known import task_of


def recipe_in(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe of a run, with ``key=value`` changes.

    Raises:
        ArgumentError: there is no run in the folder, or no such key.
    """
    if not (path / "recipe.yaml").exists():
        raise ArgumentError(f"{path} is no folder of a run: it has no recipe.yaml")
    return catalogue.load(path / "recipe.yaml", changes)


def model_in(path: Path, images: sets.Sets, changes: Sequence[str] = ()) -> nn.Module:
    """The best model of a run, on the CPU.

    Args:
        path: of the run's folder.
        images: for whose classes and channels it was made.
        changes: of the recipe, such as a threshold of the model's.

    Raises:
        ArgumentError: there is no run in the folder, or its model is for other images.
    """
    model = assemble.model_of(recipe_in(path, changes), images)
    state = checkpoint.read(path / "best.ckpt")
    try:
        checkpoint.restore_weights(model, state)
    except RuntimeError as error:
        raise ArgumentError(f"the model in {path} is for other images: {error}") from error
    return model


def evaluate(path: Path, split: str = "", changes: Sequence[str] = ()) -> dict[str, float]:
    """Figures of a run's best model.

    Args:
        path: of the run's folder.
        split: of the data set; by default that of the recipe's test images.
        changes: ``key=value`` of the recipe: other images, or options of the model.

    Raises:
        ArgumentError: there is no run in the folder, its set has no such split, or a change is of
            no known key or makes another model.
    """
    recipe = recipe_in(path, changes)
    recipe.data.test = split or recipe.data.test or "validation"
    fabric = launched(recipe.precision)
    images = sets.load(recipe.data, recipe.seed, recipe.adapt)
    judge = task_of(recipe).judge(fabric, recipe, images)
    return judge.last(fabric.setup(model_in(path, images, changes)).eval(), images).figures


def probabilities(path: Path, images: sets.Sets, which: ImageSet) -> Tensor:
    """float32 [N, classes]: what a run's best model makes of images, in their order.

    Args:
        path: of the run's folder.
        images: the sets of its recipe.
        which: of them, none broken.
    """
    recipe = recipe_in(path)
    fabric = launched(recipe.precision)
    normalize = normalize_of(recipe)
    model = fabric.setup(model_in(path, images)).eval()
    with torch.inference_mode():
        batches = in_order(which, recipe.batch_size, fabric.device, workers=recipe.data.workers)
        answers = [model(normalize(batch.images)).float().softmax(1).cpu() for batch in batches]
    return torch.cat(answers)
