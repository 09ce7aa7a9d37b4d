"""The training loop on a toy problem: which of four patterns is in the noise."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from cvperf.data import Augmented, Broken, InMemory, transforms
from cvperf.errors import ArgumentError
from cvperf.train import assemble, checkpoint, losses
from cvperf.train.evaluate import metrics_for
from cvperf.train.fabric import launched
from cvperf.train.judge import Judge
from cvperf.train.loop import Observer, fit, forward_backward
from cvperf.train.objective import Supervised, mix, normalize_of
from cvperf.train.recipe import Data, Loss, Model, Optimizer, Recipe, Schedule, Watch
from cvperf.train.sets import Sets


def patterns(count, seed):
    """uint8 [count, 1, 8, 8]: noise with stripes, lying or upright, checks or nothing."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 100, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 4, (count,), generator=generator)
    row, column = torch.arange(8)[:, None] % 2, torch.arange(8)[None] % 2
    kinds = torch.stack([row + 0 * column, column + 0 * row, row ^ column, 0 * (row + column)])
    images += (kinds[labels] * 100)[:, None].to(torch.uint8)
    return InMemory(images, labels, ["lying", "upright", "checks", "nothing"])


AUGMENT = [{"name": "gaussian_noise", "sigma": 0.1}]
RECIPE = Recipe(
    data=Data("patterns"),
    model=Model("small_cnn", {"widths": [8, 16], "dropout": 0.2}),
    optimizer=Optimizer("sgd", 0.1, 1e-4, {"momentum": 0.9}),
    schedule=Schedule("cosine", warmup=0.5),
    epochs=3,
    batch_size=32,
    kernels=[],
)


pytestmark = pytest.mark.usefixtures("one_thread")


class StoppedError(Exception):
    """As a killed process, but one that a test survives."""


class Notes(Observer):
    """Takes down what the loop says; stops it after a step if asked."""

    def __init__(self, stop_after=None, path=None):
        self.steps, self.bests, self.epochs = [], [], 0
        self._stop, self._path = stop_after, path

    def step_done(self, run, batch):
        self.steps.append(float(sum(run.losses.values())))
        if run.step == self._stop:
            checkpoint.write(self._path, checkpoint.state_of(run, "a recipe"))
            raise StoppedError

    def epoch_done(self, run, best):
        self.epochs += 1
        self.bests.append(best)


def only(images):
    """Sets of which only the first image and the classes matter."""
    return Sets(images, images, images, None)


def trained(recipe, notes=None, state=None, objective=None, train=None):
    """A run of the recipe on the patterns, from a checkpoint's state if there is one."""
    torch.manual_seed(recipe.seed)
    fabric = launched(recipe.precision)
    whole = patterns(256, 0) if train is None else train
    train = Augmented(whole, transforms.build(AUGMENT), recipe.seed)
    images = Sets(train, train, patterns(128, 1), None)
    batches = assemble.loader_of(fabric, recipe, images)
    run = assemble.run_of(fabric, recipe, assemble.model_of(recipe, images), len(batches))
    if state is not None:
        checkpoint.restore(run, state)
    criterion = losses.build(recipe.loss, train.labels, 4)
    normalize = normalize_of(recipe)
    judge = Judge(fabric, recipe, normalize, criterion, metrics_for("abcd", train.labels))
    objective = objective or Supervised(normalize, criterion, mix(recipe.loss, 4))
    validate = lambda model: judge(model, images.validation)  # noqa: E731
    fit(fabric, run, recipe, batches, objective, validate, [notes or Notes()])
    return run


def weights(run):
    return torch.cat([value.double().flatten() for value in run.model.state_dict().values()])


def test_it_learns():
    run = trained(RECIPE)
    assert run.history[-1]["validation"]["accuracy"] > 0.9
    assert run.history[-1]["train"]["loss"] < run.history[0]["train"]["loss"]
    assert (run.epoch, run.step) == (3, 24)


@pytest.mark.parametrize("stop_after", [8, 13])
def test_a_run_that_was_stopped_ends_with_the_same_bits(tmp_path, stop_after):
    recipe = replace(RECIPE, average=0.9, loss=Loss(mixup=0.2, cutmix=1.0))
    whole = trained(recipe)
    with pytest.raises(StoppedError):
        trained(recipe, Notes(stop_after, tmp_path / "last.ckpt"))
    again = trained(recipe, state=checkpoint.read(tmp_path / "last.ckpt"))
    assert torch.equal(weights(whole), weights(again))
    assert again.history[-1]["train"] == whole.history[-1]["train"]
    assert again.history[-1]["validation"] == whole.history[-1]["validation"]
    average, other = (run.average.state_dict()["module"] for run in (whole, again))
    assert all(torch.equal(average[name], other[name]) for name in average)


def test_the_seed_decides_everything():
    assert torch.equal(weights(trained(RECIPE)), weights(trained(RECIPE)))
    assert not torch.equal(weights(trained(RECIPE)), weights(trained(replace(RECIPE, seed=1))))


def test_a_batch_in_parts_has_the_same_gradient():
    fabric = launched("float32")
    model = fabric.setup(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).double())
    images = Augmented(patterns(64, 0), transforms.build([]))
    batch = next(iter(assemble.loader_of(fabric, RECIPE, only(images))))
    criterion = losses.build(Loss(), torch.arange(4), 4)
    gradients = []
    for parts in (1, 3, 32):
        model.zero_grad()
        objective = lambda m, x, y: {"loss": criterion(m(x.double()), y)}  # noqa: E731
        forward_backward(fabric, model, batch, objective, parts)
        gradients.append(next(model.parameters()).grad.clone())
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-12)
    assert torch.allclose(gradients[0], gradients[2], rtol=1e-12)


def test_the_sum_of_several_losses_is_made_smaller_and_each_is_logged():
    def several(model, images, targets):
        loss = nn.functional.cross_entropy(model(images.float() / 255), targets)
        return {"half": loss / 2, "rest": loss - loss / 2}

    run = trained(RECIPE, objective=several)
    losses = [line["train"] for line in run.history]
    assert all(set(one) == {"loss", "half", "rest"} for one in losses)
    assert all(one["loss"] == pytest.approx(2 * one["half"]) for one in losses)
    assert losses[-1]["loss"] < 0.8 * losses[0]["loss"]


def test_the_sum_of_losses_in_an_older_checkpoint_has_its_name(tmp_path):
    torch.save({"version": 1, "losses": torch.tensor(2.5)}, tmp_path / "old.ckpt")
    assert checkpoint.read(tmp_path / "old.ckpt")["losses"] == {"loss": torch.tensor(2.5)}


def test_out_of_memory_becomes_smaller_parts(capsys):
    sizes = []

    def greedy(model, images, targets):
        sizes.append(len(images))
        if len(images) > 10:
            raise torch.OutOfMemoryError("made up")
        return {"loss": nn.functional.cross_entropy(model(images.float()), targets)}

    run = trained(replace(RECIPE, epochs=1), objective=greedy)
    assert sizes[:6] == [32, 16, 8, 8, 8, 8]
    assert run.parts == 4
    assert "in 4 parts from here on" in capsys.readouterr().err


def test_one_image_that_does_not_fit_is_an_error():
    def impossible(model, images, targets):
        raise torch.OutOfMemoryError("made up")

    with pytest.raises(ArgumentError, match="not even one image fits"):
        trained(replace(RECIPE, epochs=1), objective=impossible)


class Damaged(InMemory):
    """Images of which only the first can be read."""

    def __getitem__(self, index):
        return Broken("cat.jpg", "cut off") if index else super().__getitem__(index)


def test_batches_of_broken_images_are_passed_over():
    whole = patterns(256, 0)
    notes = Notes()
    run = trained(
        replace(RECIPE, epochs=1), notes, train=Damaged(whole.images, whole.labels, whole.classes)
    )
    assert len(notes.steps) == run.step == 8
    assert len(set(notes.steps) - {0.0}) == 1  # the loss of the one batch that has an image


def test_other_errors_are_not_taken_for_it():
    def broken(model, images, targets):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        trained(replace(RECIPE, epochs=1), objective=broken)


def test_it_stops_early_when_nothing_gets_better():
    recipe = replace(RECIPE, epochs=20, optimizer=Optimizer("sgd", 0.0), watch=Watch(patience=2))
    notes = Notes()
    run = trained(recipe, notes)
    assert run.epoch == notes.epochs == 3
    assert notes.bests == [True, False, False]


def test_a_gradient_is_clipped():
    recipe = replace(
        RECIPE, epochs=1, optimizer=Optimizer("sgd", 1.0, clip=1e-4), schedule=Schedule("constant")
    )
    notes = Notes()
    run = trained(recipe, notes)
    torch.manual_seed(0)
    start = assemble.model_of(recipe, only(patterns(8, 0)))
    pairs = zip(start.parameters(), run.model.parameters(), strict=True)
    moved = sum(float((a - b).detach().square().sum()) for a, b in pairs) ** 0.5
    assert 0 < moved <= len(notes.steps) * 1e-4 * 1.001


def test_the_average_trails_the_weights():
    run = trained(replace(RECIPE, average=0.5))
    model = copy.deepcopy(checkpoint.unwrapped(run.model))
    assert run.validated is run.average.module
    for average, last in zip(run.average.module.parameters(), model.parameters(), strict=True):
        assert torch.allclose(average, last, atol=0.2)
        assert not torch.equal(average, last)


def test_frozen_parameters_stay():
    recipe = replace(RECIPE, model=replace(RECIPE.model, freeze=["features.*"]))
    torch.manual_seed(0)
    start = assemble.model_of(recipe, only(patterns(8, 0))).state_dict()
    end = checkpoint.unwrapped(trained(recipe).model).state_dict()
    changed = {name for name in start if not torch.equal(start[name], end[name])}
    assert changed == {"head.weight", "head.bias"}


def test_bfloat16_products_learn_too():
    run = trained(replace(RECIPE, precision="bfloat16"))
    assert run.history[-1]["validation"]["accuracy"] > 0.8
    assert all(p.dtype == torch.float32 for p in run.model.parameters())


@pytest.mark.parametrize("name", ["adamw", "rmsprop", "nadam", "adagrad"])
def test_optimizers_of_torch_are_there_by_name(name):
    recipe = replace(RECIPE, epochs=1, optimizer=Optimizer(name, 1e-3))
    history = trained(recipe).history
    assert history[0]["train"]["loss"] < 2
