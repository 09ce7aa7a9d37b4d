"""Five folds of faces, on a file that stands in for scikit-image's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cvperf.data import load
from cvperf.data.sets import faces
from cvperf.errors import ArgumentError


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """200 pictures, each of one grey: its own number, faces first."""
    file = tmp_path / "skimage/data/lfw_subset.npy"
    file.parent.mkdir(parents=True)
    np.save(file, np.broadcast_to(np.arange(200)[:, None, None] / 255, (200, 25, 25)))
    monkeypatch.setattr(faces, "fetch", lambda name: tmp_path)


def numbers(split: str, **options: int) -> list[int]:
    """Of the pictures in a split."""
    return load("faces", split, **options).images[:, 0, 0, 0].tolist()  # type: ignore[attr-defined]


def test_each_picture_is_tested_by_one_fold() -> None:
    tested = [number for fold in range(5) for number in numbers("test", fold=fold)]
    assert sorted(tested) == list(range(200))


@pytest.mark.parametrize("fold", range(5))
def test_a_fold_is_apart_from_its_training_images_and_has_both_classes_alike(fold: int) -> None:
    test, train = numbers("test", fold=fold), numbers("train", fold=fold)
    assert sorted(test + train) == list(range(200))
    labels = load("faces", "test", fold=fold).labels
    assert labels is not None
    assert torch.bincount(labels).tolist() == [20, 20]


def test_the_first_hundred_are_faces() -> None:
    dataset = load("faces", "train")
    truth = [dataset.classes[dataset[index][1]] for index in range(len(dataset))]
    assert truth == ["face" if number < 100 else "other" for number in numbers("train")]


@pytest.mark.parametrize("options", [{"fold": 5}, {"fold": -1}, {"fold": 2, "folds": 2}])
def test_a_fold_that_is_none_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ArgumentError, match="fold must be 0 to"):
        load("faces", "test", **options)


def test_there_is_no_split_for_validation() -> None:
    with pytest.raises(ArgumentError, match="'train', 'test'"):
        load("faces", "validation")
