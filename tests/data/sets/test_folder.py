"""A folder for each class, with folders of splits or divided at random."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cvperf.data import Broken, UnreadableImageError, load
from cvperf.errors import ArgumentError
from tests.data.pictures import BLUE, GREEN, RED, cut, write


def test_folders_of_splits_are_found_by_their_usual_names(tmp_path: Path) -> None:
    for split, count in {"train": 3, "val": 2, "test": 1}.items():
        for name, color in {"red": RED, "blue": BLUE}.items():
            for i in range(count):
                write(tmp_path / split / name / "more" / f"{i}.png", color)
    for split, count in {"train": 6, "validation": 4, "test": 2}.items():
        assert len(load("folder", split, root=tmp_path)) == count
    dataset = load("folder", "train", root=tmp_path)
    assert dataset.classes == ("blue", "red")
    image, label = dataset[5]
    assert (image[:, 0, 0].tolist(), label) == (list(RED), 1)
    assert image.shape == (3, 6, 8)


def test_one_folder_is_divided_class_by_class_and_always_the_same(tmp_path: Path) -> None:
    for name, count in {"a": 10, "b": 20}.items():
        for i in range(count):
            write(tmp_path / name / f"{i}.png")
    parts = {
        split: load("folder", split, root=tmp_path, validation=0.2, test=0.1)
        for split in ("train", "validation", "test")
    }
    counts = {split: torch.bincount(part.labels).tolist() for split, part in parts.items()}  # type: ignore[arg-type]
    assert counts == {"train": [7, 14], "validation": [2, 4], "test": [1, 2]}
    chosen = {split: part.indices.tolist() for split, part in parts.items()}  # type: ignore[attr-defined]
    assert sorted(i for part in chosen.values() for i in part) == list(range(30))
    again = load("folder", "validation", root=tmp_path, validation=0.2, test=0.1)
    other = load("folder", "validation", root=tmp_path, validation=0.2, test=0.1, seed=1)
    assert again.indices.tolist() == chosen["validation"]  # type: ignore[attr-defined]
    assert other.indices.tolist() != chosen["validation"]  # type: ignore[attr-defined]


def test_a_broken_image_is_a_sample_or_an_error_as_asked(tmp_path: Path) -> None:
    path = cut(write(tmp_path / "train/a/0.png", GREEN, (80, 60)))
    sample = load("folder", "train", root=tmp_path)[0]
    assert isinstance(sample, Broken)
    assert sample.path == str(path)
    with pytest.raises(UnreadableImageError, match=r"0.png"):
        load("folder", "train", root=tmp_path, broken="raise")[0]
    with pytest.raises(ArgumentError, match='"skip" or "raise"'):
        load("folder", "train", root=tmp_path, broken="ignore")


def test_files_that_are_no_images_and_hidden_ones_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "train/a/0.PNG")
    for name in ("train/a/notes.txt", "train/a/._0.png", "train/.ipynb_checkpoints/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    dataset = load("folder", "train", root=tmp_path)
    assert (len(dataset), dataset.classes) == (1, ("a",))


def test_grey_is_one_channel(tmp_path: Path) -> None:
    write(tmp_path / "train/a/0.png")
    assert load("folder", "train", root=tmp_path, color="L")[0][0].shape == (1, 6, 8)


def test_what_is_not_laid_out_so_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no folder for a class"):
        load("folder", "train", root=tmp_path)
    write(tmp_path / "train/a/0.png")
    write(tmp_path / "test/b/0.png")
    with pytest.raises(ArgumentError, match=r"validation, val, valid.*there: train, test"):
        load("folder", "validation", root=tmp_path)
    with pytest.raises(ArgumentError, match="classes that train has not: b"):
        load("folder", "test", root=tmp_path)
    (tmp_path / "train/b").mkdir()
    with pytest.raises(ArgumentError, match="hold no image: b"):
        load("folder", "train", root=tmp_path)
