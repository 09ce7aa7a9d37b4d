"""Detectors out of torchvision's files of weights, and out of runs of ``cvperf train``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cvperf.data.sets import SETS
from cvperf.detect import detectors
from cvperf.errors import ArgumentError
from cvperf.train import catalogue
from cvperf.train.recipe import Data, Model, Optimizer, Recipe, Watch
from cvperf.train.run import train
from tests.train.detection.blocks import Blocks


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """See ``one_thread``."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of torchvision's smallest detector for two classes; random weights."""
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)
    path = tmp_path_factory.mktemp("weights") / "detector.pth"
    torch.save(model.state_dict(), path)
    return path


NAME = "ssdlite320_mobilenet_v3_large"


def test_torchvisions_detector_takes_a_file_and_its_classes(weights: Path) -> None:
    found = detectors.load(NAME, weights, ["cat", "dog"])
    assert found.names == {1: "cat", 2: "dog"}
    assert not found.model.training
    saved = torch.load(weights, weights_only=True)
    for name, value in found.model.state_dict().items():
        assert torch.equal(value, saved[name]), name


def test_a_file_for_other_classes_says_how_to_name_them(weights: Path) -> None:
    with pytest.raises(ArgumentError, match=r"(?s)does not fit|another number of classes"):
        detectors.load(NAME, weights)


def test_cocos_names_go_with_torchvisions_labels() -> None:
    names = detectors._coco()
    assert len(names) == 80
    assert (names[1], names[90]) == ("person", "toothbrush")


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recipe]:
    """A recipe of seconds."""
    monkeypatch.setitem(SETS, "blocks", Blocks)
    return Recipe(
        task="detection",
        data=Data("blocks", options={"count": 4}),
        model=Model("faster-rcnn"),
        optimizer=Optimizer("adamw", 1e-3),
        watch=Watch("ap50"),
        epochs=1,
        batch_size=2,
        kernels=[],
    )


def test_a_runs_folder_is_a_detector(blocks: Recipe, tmp_path: Path) -> None:
    train(blocks, "blocks", tmp_path / "run")
    found = detectors.load(str(tmp_path / "run"))
    assert found.names == {1: "upright", 2: "lying"}
    assert not found.model.training
    image, _ = Blocks("test")[0]
    with torch.inference_mode():
        (answers,) = found.model([image.float() / 255])
    assert answers["boxes"].shape == (len(answers["labels"]), 4)
    with pytest.raises(ArgumentError, match="weights and classes of its own"):
        detectors.load(str(tmp_path / "run"), classes=["cat"])


def test_a_folder_without_a_run_or_of_a_classifier_is_refused(
    blocks: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(ArgumentError, match="it has no recipe"):
        detectors.load(str(tmp_path))
    other = replace(blocks, task="classification")
    (tmp_path / "recipe.yaml").write_text(catalogue.to_yaml(other))
    with pytest.raises(ArgumentError, match="a run of classification; a detector was expected"):
        detectors.load(str(tmp_path))
