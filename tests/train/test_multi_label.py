"""Recipes whose images have several classes, or a number."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cvperf.data import InMemory
from cvperf.errors import ArgumentError
from cvperf.train import catalogue, finished, losses
from cvperf.train.recipe import Loss
from cvperf.train.run import train

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = """
about: rows that are bright
data: {name: csv, options: {root: ROOT, separator: "|", color: L}}
model: {name: small_cnn, options: {widths: [8, 16], pool: places}}
loss: {name: bce, class_weights: inverse}
thresholds: {tune: f1}
optimizer: {name: adamw, lr: 0.01}
watch: {figure: map}
epochs: 4
batch_size: 16
kernels: []
"""


def pictures(folder: Path, splits: dict[str, int]) -> Path:
    """8x8 pictures with a bright bar (class "wide"), one that stands ("tall"), or both."""
    generator = np.random.RandomState(0)
    rows = ["path,label,split"]
    for split, count in splits.items():
        for index in range(count):
            pixels = generator.randint(0, 90, (8, 8)).astype(np.uint8)
            classes = [("wide",), ("tall",), ("wide", "tall")][index % 3]
            place = generator.randint(1, 7)
            if "wide" in classes:
                pixels[place] = 255
            if "tall" in classes:
                pixels[:, place] = 255
            Image.fromarray(pixels).save(folder / f"{split}{index}.png")
            rows.append(f"{split}{index}.png,{'|'.join(classes)},{split}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bars")
    table = pictures(folder, {"train": 120, "validation": 60, "test": 60})
    (folder / "bars.yaml").write_text(RECIPE.replace("ROOT", str(table)))
    return folder / "bars.yaml"


def test_several_classes_are_learned_and_their_thresholds_tuned(recipe, tmp_path):
    figures = train(catalogue.load(recipe), "bars", tmp_path).figures
    assert figures["map"] > 0.9
    assert {"f1", "tuned_f1", "tuned_accuracy", "threshold/wide", "threshold/tall"} <= set(figures)
    assert figures["tuned_f1"] > 0.8
    assert json.loads((tmp_path / "result.json").read_text())["tuned_f1"] == figures["tuned_f1"]
    again = finished.evaluate(tmp_path)
    assert again == {name: figures[name] for name in again}
    assert "tuned_f1" in again


def test_thresholds_are_those_of_the_validation_images(recipe, tmp_path):
    path = tmp_path / "run"
    figures = train(catalogue.load(recipe, ["epochs=1"]), "bars", path).figures
    # Judged on the images that they were tuned on, no threshold gives a better F1.
    tuned = finished.evaluate(path, "validation")
    assert tuned["tuned_f1"] >= tuned["f1"]
    names = ("threshold/wide", "threshold/tall")
    assert [tuned[name] for name in names] == [figures[name] for name in names]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("thresholds.tune=f2", "one of f1, accuracy, balanced_accuracy; got 'f2'"),
        ("data.test=''", "name other images in data.test"),
    ],
)
def test_thresholds_that_do_not_fit_are_refused_before_training(recipe, change, message, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        train(catalogue.load(recipe, [change]), "bars", tmp_path)
    assert not (tmp_path / "last.ckpt").exists()


def test_thresholds_of_one_class_an_image_are_refused(tmp_path):
    changes = ["data.name=digits", "data.holdout=0.1", "thresholds.tune=f1"]
    with pytest.raises(ArgumentError, match="several classes each"):
        train(catalogue.load("fashion-mnist/cnn", changes), "digits", tmp_path)


def test_presence_counts_as_much_as_absence():
    labels = torch.tensor([[1.0, 1.0], [0, 1], [0, 1], [0, 0]])
    loss = losses.build(Loss("bce", class_weights="inverse"), labels, 2)
    logits = torch.zeros(4, 2)
    # 3 absences for the presence of the first class, 1/3 for the second: all terms are log 2.
    expected = torch.tensor([3 + 3, 3 / 3 + 1]).sum() * np.log(2) / 8
    assert float(loss(logits, labels)) == pytest.approx(float(expected))


def test_a_class_that_is_nowhere_has_no_weight():
    with pytest.raises(ArgumentError, match=r"without: \[1\]"):
        losses.build(Loss("bce", class_weights="inverse"), torch.tensor([[1.0, 0.0]]), 2)


def test_a_number_an_image_is_learned_though_some_are_far_off(monkeypatch, tmp_path):
    """The number is how bright the picture is."""
    from cvperf.data.sets import SETS

    bright = torch.linspace(0, 250, 300)
    images = bright.to(torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8).contiguous()
    monkeypatch.setitem(SETS, "bright", lambda split: InMemory(images, bright / 100, ()))
    recipe = catalogue.load(
        "rotated/outliers", ["data.name=bright", "data.limit=0", "data.options={}"]
    )
    recipe.model.name, recipe.model.options = "small_cnn", {"widths": [4, 4]}
    recipe.kernels, recipe.epochs, recipe.batch_size = [], 12, 16
    recipe.optimizer.lr = 0.02
    figures = {}
    for name in ("huber", "mse"):
        recipe.loss.name = name
        figures[name] = train(recipe, "bright", tmp_path / name).figures["mae"]
    assert figures["huber"] < 0.3, figures
    assert figures["huber"] < 0.7 * figures["mse"]
