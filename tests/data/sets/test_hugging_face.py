"""Local folders as Hugging Face's ``datasets`` lays them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cvperf.data import Broken, load
from cvperf.errors import ArgumentError
from tests.data.pictures import BLUE, RED, cut, write


def metadata(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_metadata_in_folders_of_splits(tmp_path: Path) -> None:
    for split, names in {"train": ["cat", "dog"], "test": ["dog"]}.items():
        rows = [{"file_name": f"{i}.png", "label": name} for i, name in enumerate(names)]
        metadata(tmp_path / split, rows)
        write(tmp_path / split / "0.png")
    assert load("hugging-face", "train", root=tmp_path).classes == ("cat", "dog")
    test = load("hugging-face", "test", root=tmp_path)
    assert test[0][1] == 1


def test_metadata_of_one_folder_is_divided_at_random(tmp_path: Path) -> None:
    rows = [f"{i}.png,{i % 2}" for i in range(10)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    assert len(load("hugging-face", "train", root=tmp_path)) == 8
    assert len(load("hugging-face", "validation", root=tmp_path)) == 2


@pytest.mark.parametrize(
    ("labels", "expected"),
    [([["a", "b"], []], [[1, 1], [0, 0]]), ([0.5, 2.0], [0.5, 2.0]), ([3, 5], [0, 1])],
)
def test_the_kind_of_label_is_read_off(tmp_path: Path, labels: list[Any], expected: Any) -> None:
    rows = [{"file_name": f"{i}.png", "target": label} for i, label in enumerate(labels)]
    metadata(tmp_path / "train", rows)
    dataset = load("hugging-face", "train", root=tmp_path, label="target")
    assert dataset.labels.tolist() == expected  # type: ignore[union-attr]


def test_objects_make_a_detection_set(tmp_path: Path) -> None:
    objects = {"bbox": [[1, 2, 3, 2], [0, 0, 8, 6]], "categories": [4, 2]}
    metadata(tmp_path / "train", [{"file_name": "0.png", "objects": objects}])
    write(tmp_path / "train/0.png")
    dataset = load("hugging-face", "train", root=tmp_path)
    target = dataset[0][1]
    assert dataset.classes == ("2", "4")
    assert target["boxes"].tolist() == [[1, 2, 4, 4], [0, 0, 8, 6]]
    assert target["labels"].tolist() == [1, 0]


def test_without_metadata_folders_are_classes(tmp_path: Path) -> None:
    write(tmp_path / "train/red/0.png", RED)
    write(tmp_path / "train/blue/0.png", BLUE)
    dataset = load("hugging-face", "train", root=tmp_path)
    assert dataset.classes == ("blue", "red")


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    metadata(tmp_path / "train", [{"file_name": "0.png", "text": "a cat"}])
    with pytest.raises(ArgumentError, match=r"line 1 has no column 'label'.*file_name, text"):
        load("hugging-face", "train", root=tmp_path)
    (tmp_path / "train/metadata.jsonl").write_text('\n{"file_name"')
    with pytest.raises(ArgumentError, match="line 2 is no JSON, or cut"):
        load("hugging-face", "train", root=tmp_path)
    metadata(tmp_path / "train", [{"file_name": "0.png", "objects": {"bbox": []}}])
    with pytest.raises(ArgumentError, match="line 1: objects must have"):
        load("hugging-face", "train", root=tmp_path)


def test_a_set_that_was_saved_to_disk(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="in no extra that the tests install")
    paths = [write(tmp_path / f"{i}.png", (RED, BLUE)[i % 2]) for i in range(10)]
    cut(paths[3], keep=0.6)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["red", "blue"])}
    )
    rows = {"image": list(map(str, paths)), "label": [i % 2 for i in range(10)]}
    whole = datasets.Dataset.from_dict(rows, features=features)
    whole.save_to_disk(tmp_path / "whole")
    datasets.DatasetDict({"train": whole, "test": whole}).save_to_disk(tmp_path / "splits")
    train = load("hugging-face", "train", root=tmp_path / "splits")
    assert train.classes == ("red", "blue")
    assert (train[0][0][:, 0, 0].tolist(), train[1][1]) == (list(RED), 1)
    assert isinstance(train[3], Broken)
    assert len(load("hugging-face", "validation", root=tmp_path / "whole")) == 2
    with pytest.raises(ArgumentError, match="no split 'validation'"):
        load("hugging-face", "validation", root=tmp_path / "splits")
