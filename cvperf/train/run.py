"""A recipe carried out: from its sections to a trained model, its figures and a folder of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

import cvperf
from cvperf import environment
from cvperf.models import narrow
from cvperf.train import assemble, catalogue, checkpoint, exchange, folder, sets
from cvperf.train.distil import Teacher
from cvperf.train.events import Events
from cvperf.train.fabric import launched
from cvperf.train.finished import model_in
from cvperf.train.loop import Observer, fit
from cvperf.train.neighbours import pixel_accuracy
from cvperf.train.probe import probe
from cvperf.train.progress import Bars
from cvperf.train.recipe import Recipe
from cvperf.train.tasks.known import task_of


@dataclass(frozen=True)
class Outcome:
    """What a run ends with.

    Attributes:
        figures: of the best epoch's model on the test images; on those for validation, if the
            recipe has no test images.
        seconds: of the whole command, of this start.
        path: the run's folder, where the rest is.
    """

    figures: dict[str, float]
    seconds: float
    path: Path


def train(
    recipe: Recipe,
    name: str,
    path: Path | None = None,
    observers: Sequence[Observer] = (),
    weights: Tensor | None = None,
) -> Outcome:
    """Carry out a recipe with one model. A folder with a run of the same recipe is continued.

    Args:
        recipe: what to do.
        name: of the recipe, for the folder.
        path: of the run's folder; by default ``runs/<name>/<time>``.
        observers: are told of steps and epochs after the folder and the progress bar.
        weights: float [N], how often a training image is drawn; by default each once an epoch.

    Raises:
        ArgumentError: a section does not fit, or the folder has a run of another recipe.
    """
    started = time.perf_counter()
    cvperf.keep_freed_memory()
    exchange.check(recipe)
    task = task_of(recipe)
    fabric = launched(recipe.precision, recipe.processes)
    images = sets.load(recipe.data, recipe.seed, recipe.adapt)
    kept = folder.RunFolder(path or folder.new(name, fabric), recipe, fabric)
    teacher = _teacher(recipe, fabric, images, kept.path)
    torch.manual_seed(recipe.seed)
    batches = assemble.loader_of(fabric, recipe, images, weights)
    model = assemble.model_of(recipe, images)
    if recipe.model.narrow_from:
        wide = _trained(recipe.model.narrow_from, kept.path / "wide")
        narrow(model_in(wide, images), model)
    if recipe.model.probe:
        probe(fabric.to_device(model), recipe, images.plain)
    run = assemble.run_of(fabric, recipe, model, len(batches))
    kept.resume(run)
    exchanged = exchange.Exchange(fabric, recipe, run.model)

    judge = task.judge(fabric, recipe, images)
    objective = task.objective(recipe, images, teacher)
    cvperf.explain(reset=True)
    bars = Bars(fabric, recipe.epochs, len(batches))
    events = Events(fabric, kept.path, run.step)
    with serving(recipe), bars, events:

        def validate(model: nn.Module) -> dict[str, float]:
            exchanged.settle()
            return judge(model, images.validation)

        told = (exchanged, kept, bars, events, *observers)
        fit(fabric, run, recipe, batches, objective, validate, told)
        explained = str(cvperf.explain())
        fabric.barrier()  # until the first process has written the best epoch's checkpoint
        checkpoint.restore_weights(run.validated, checkpoint.read(kept.best))
        verdict = judge.last(run.validated.eval(), images)
    figures = {**verdict.figures, **exchanged.figures()}
    if recipe.pixel_neighbours:
        test, count = images.test or images.validation, recipe.pixel_neighbours
        figures["pixel_knn_accuracy"] = pixel_accuracy(images.plain, test, count)
    seconds = time.perf_counter() - started
    report = {
        "final": figures,
        "classes": images.train.classes,
        **verdict.shown,
        "explain": explained,
        "environment": environment.collect(),
        "command": f"cvperf train {kept.path / 'recipe.yaml'}",
    }
    kept.finish(run, {"recipe": name, **figures, "seconds": seconds}, report)
    return Outcome(figures, seconds, kept.path)


def serving(recipe: Recipe) -> AbstractContextManager[None]:
    """The block in which our kernels run what ``recipe.kernels`` names."""
    return cvperf.use(*recipe.kernels) if recipe.kernels else nullcontext()


def _teacher(recipe: Recipe, fabric: Fabric, images: sets.Sets, path: Path) -> Teacher | None:
    """The teacher of a recipe."""
    if not recipe.distil.teacher:
        return None
    where = _trained(recipe.distil.teacher, path / "teacher")
    return Teacher(fabric.to_device(model_in(where, images)).eval(), recipe.distil)


def _trained(source: str, inside: Path) -> Path:
    """The folder of a run that another needs; a source that is a recipe is trained ``inside``."""
    if (Path(source) / "recipe.yaml").exists():
        return Path(source)
    train(catalogue.load(source), source, inside)
    return inside
