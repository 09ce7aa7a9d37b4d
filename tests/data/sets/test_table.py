"""CSV files of paths and labels: one class, several, or a number."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvperf.data import load
from cvperf.errors import ArgumentError
from tests.data.pictures import RED, write


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_column_names_the_split_of_each_row(tmp_path: Path) -> None:
    write(tmp_path / "images/0.png")
    rows = ("path,label,split", "images/0.png,cat,train", "1.png,dog,val", "2.png,cat,train")
    file = table(tmp_path / "labels.csv", *rows)
    train = load("csv", "train", root=file)
    assert train.classes == ("cat", "dog")
    assert train.labels.tolist() == [0, 0]  # type: ignore[union-attr]
    assert train[0][0][:, 0, 0].tolist() == list(RED)
    assert train[1].reason == "no such file"
    assert load("csv", "validation", root=file).labels.tolist() == [1]  # type: ignore[union-attr]
    with pytest.raises(ArgumentError, match="no row of split 'test'"):
        load("csv", "test", root=file)


def test_a_folder_has_a_file_for_each_split_and_classes_are_those_of_training(
    tmp_path: Path,
) -> None:
    table(tmp_path / "train.csv", "file,class", "0.png,10", "1.png,9")
    table(tmp_path / "val.csv", "file,class", "2.png,10")
    columns = {"path": "file", "label": "class"}
    train = load("csv", "train", root=tmp_path, **columns)  # type: ignore[arg-type]
    assert train.classes == ("9", "10")  # numbers in the order of numbers
    validation = load("csv", "validation", root=tmp_path, images=tmp_path / "x", **columns)
    assert validation.labels.tolist() == [1]  # type: ignore[union-attr]
    assert validation.paths == [str(tmp_path / "x/2.png")]  # type: ignore[attr-defined]
    table(tmp_path / "val.csv", "file,class", "2.png,11")
    with pytest.raises(ArgumentError, match=r"val.csv, line 2: class '11' is not .* 9, 10"):
        load("csv", "validation", root=tmp_path, **columns)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"no test.csv.*there: train.csv, val.csv"):
        load("csv", "test", root=tmp_path)


def test_several_classes_a_row_become_zeros_and_ones(tmp_path: Path) -> None:
    file = table(tmp_path / "train.csv", "path,label", "0.png,sea|sky", "1.png,", "2.png,sky")
    write(tmp_path / "0.png")
    dataset = load("csv", "train", root=tmp_path, separator="|")
    assert dataset.labels.tolist() == [[1, 1], [0, 0], [0, 1]]  # type: ignore[union-attr]
    assert dataset[0][1].tolist() == [1, 1]
    with pytest.raises(ArgumentError, match="needs the separator"):
        load("csv", "train", root=file, kind="multi")


def test_numbers_become_floats_for_regression(tmp_path: Path) -> None:
    write(tmp_path / "0.png")
    table(tmp_path / "train.csv", "path,label", "0.png,1.5", "1.png,-2e3")
    dataset = load("csv", "train", root=tmp_path, kind="regression")
    assert (dataset[0][1], dataset.classes) == (1.5, ())
    table(tmp_path / "train.csv", "path,label", "0.png,1.5", "1.png,high")
    with pytest.raises(ArgumentError, match="line 3: 'high' is no finite number"):
        load("csv", "train", root=tmp_path, kind="regression")


def test_one_file_without_splits_is_divided_at_random(tmp_path: Path) -> None:
    rows = [f"{i}.png,{'ab'[i % 2]}" for i in range(20)]
    file = table(tmp_path / "labels.csv", "path,label", *rows)
    assert len(load("csv", "train", root=file, validation=0.3)) == 14
    assert len(load("csv", "validation", root=file, validation=0.3)) == 6


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("image,label", "0.png,a"), "no column 'path'; columns: image, label"),
        (("path,label", "0.png,a", "1.png,"), "line 3: the label is empty"),
        (("path,label,split", "0.png,a,dev"), "line 2: split is 'dev'; expected one of"),
        (("path,label",), "no rows"),
        (("path,label", '"0\n.png",a', "", "1.png,"), "line 5: the label is empty"),
        (("path,label", "0.png,a,b"), "line 2 has more fields"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    tmp_path: Path, lines: tuple[str, ...], message: str
) -> None:
    file = table(tmp_path / "labels.csv", *lines)
    with pytest.raises(ArgumentError, match=message):
        load("csv", "train", root=file)
