"""One class an image, several, or a number (regression)."""

from __future__ import annotations

from lightning_fabric import Fabric
from torch import nn

from cvperf.data import transforms
from cvperf.errors import ArgumentError
from cvperf.models import create_model
from cvperf.train import losses, sets, thresholds
from cvperf.train.adapt import Domain
from cvperf.train.distil import Teacher
from cvperf.train.evaluate import metrics_for
from cvperf.train.judge import Judge
from cvperf.train.objective import Supervised, mix, normalize_of
from cvperf.train.recipe import Detection, Recipe


def check(recipe: Recipe) -> None:
    """Refuse what is of detection alone."""
    if recipe.loss.weights or recipe.detection != Detection():
        raise ArgumentError("loss.weights and the section detection are for task=detection")


def network(recipe: Recipe, images: sets.Sets) -> nn.Module:
    """A classifier, or a network with one answer for regression."""
    labels = sets.labels_of(images.train)
    config = recipe.model
    answers = 1 if labels.is_floating_point() and labels.dim() == 1 else len(images.train.classes)
    return create_model(
        config.name, answers, channels=sets.channels(images.train), **config.options
    )


def objective(recipe: Recipe, images: sets.Sets, teacher: Teacher | None) -> Supervised:
    """The loss by name, on images that are augmented and mixed."""
    labels, classes = sets.labels_of(images.train), len(images.train.classes)
    batches = recipe.data.augment_batch
    foreign = images.foreign if recipe.adapt.weight else None
    return Supervised(
        normalize_of(recipe),
        losses.build(recipe.loss, labels, classes),
        mix(recipe.loss, classes),
        losses.adjustment(recipe.loss, labels, classes),
        teacher,
        transforms.build(batches) if batches else None,
        Domain(foreign, recipe.adapt) if foreign else None,
    )


def judge(fabric: Fabric, recipe: Recipe, images: sets.Sets) -> Judge:
    """Same normalisation, same loss, same metrics."""
    labels, classes = sets.labels_of(images.train), images.train.classes
    criterion = losses.build(recipe.loss, labels, len(classes))
    metrics = metrics_for(classes, labels)
    thresholds.check(recipe.thresholds.tune, metrics, images)
    return Judge(fabric, recipe, normalize_of(recipe), criterion, metrics)
