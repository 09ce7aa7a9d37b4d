"""Boxes, and masks where the model finds them."""

from __future__ import annotations

from lightning_fabric import Fabric
from torch import nn

from cvperf.data import transforms
from cvperf.errors import ArgumentError
from cvperf.eval import Detection
from cvperf.train.detection.judge import DetectionJudge
from cvperf.train.detection.objective import DetectorLosses
from cvperf.train.distil import Teacher
from cvperf.train.recipe import Loss, Recipe
from cvperf.train.sets import Sets


def check(recipe: Recipe) -> None:
    """Refuse what is of classification alone."""
    plain = Recipe()
    asked = {
        name: getattr(recipe, name) != getattr(plain, name)
        for name in ("thresholds", "distil", "adapt", "ensemble", "pixel_neighbours")
    }
    asked["loss (but for loss.weights)"] = recipe.loss != Loss(weights=recipe.loss.weights)
    asked["data.mean and data.std (but model.options.resize.image_mean)"] = (
        recipe.data.mean != plain.data.mean or recipe.data.std != plain.data.std
    )
    asked["model.probe"] = recipe.model.probe
    asked["model.narrow_from"] = bool(recipe.model.narrow_from)
    if refused := [name for name, given in asked.items() if given]:
        raise ArgumentError(f"task=detection does not go with {', '.join(refused)}")


def network(recipe: Recipe, images: Sets) -> nn.Module:
    """A detector of the classes and the background; it resizes and normalises by itself.

    Raises:
        ArgumentError: the images have labels in place of boxes, or there is no such detector.
    """
    from cvperf.models.detection import create_detector

    if images.train.labels is not None:
        raise ArgumentError(
            f"task=detection needs images with boxes, and data.name={recipe.data.name!r} has a "
            "label an image (composed scenes have boxes with data.options.kind=detection)"
        )
    config = recipe.model
    return create_detector(config.name, len(images.train.classes) + 1, **config.options)


def objective(recipe: Recipe, images: Sets, teacher: Teacher | None) -> DetectorLosses:
    """The detector's own losses."""
    batches = recipe.data.augment_batch
    augment = transforms.build(batches) if batches else None
    return DetectorLosses(recipe.loss.weights, recipe.detection.sizes, augment)


def judge(fabric: Fabric, recipe: Recipe, images: Sets) -> DetectionJudge:
    """The metrics of COCO."""
    return DetectionJudge(fabric, recipe, Detection(images.train.classes))
