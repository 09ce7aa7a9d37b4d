"""COCO's JSON files: boxes, labels, and masks from polygons and run lengths."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import tv_tensors

from cvperf.data import Broken, load
from cvperf.data.sets import coco
from cvperf.errors import ArgumentError
from tests.data.pictures import write

HEIGHT, WIDTH = 20, 30
SQUARE = [[4, 2, 14, 2, 14, 10, 4, 10]]  # x 4 to 14, y 2 to 10


def runs(top: int, left: int, bottom: int, right: int) -> dict[str, Any]:
    """A rectangle as uncompressed run lengths, column by column."""
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.uint8)
    mask[top:bottom, left:right] = 1
    _, counts = torch.unique_consecutive(mask.T.flatten(), return_counts=True)
    return {"size": [HEIGHT, WIDTH], "counts": counts.tolist()}


def annotation(number: int, segmentation: Any = None, **changes: Any) -> dict[str, Any]:
    one = {"id": number, "image_id": 1, "category_id": 7, "bbox": [4, 2, 10, 8], "iscrowd": 0}
    return one | ({"segmentation": segmentation} if segmentation else {}) | changes


def make(root: Path, annotations: list[dict[str, Any]], file: str, folder: str) -> None:
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
            {"id": 2, "file_name": "b.png", "height": HEIGHT, "width": WIDTH},
        ],
        "annotations": annotations,
        "categories": [{"id": 90, "name": "dog"}, {"id": 7, "name": "cat"}],
    }
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(content))
    for name in ("a.png", "b.png"):
        write(root / folder / name, size=(WIDTH, HEIGHT))


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/instances_val.json", "images/val"),
        ("valid/_annotations.coco.json", "valid"),
        ("val.json", "images"),
        ("validation.json", ""),
    ],
)
def test_the_usual_layouts_are_found(tmp_path: Path, file: str, folder: str) -> None:
    make(tmp_path, [annotation(1), annotation(2, category_id=90)], file, folder)
    dataset = load("coco", "validation", root=tmp_path)
    assert dataset.classes == ("cat", "dog")
    image, target = dataset[0]
    assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)
    assert target["boxes"].tolist() == [[4, 2, 14, 10]] * 2
    assert target["labels"].tolist() == [0, 1]
    assert "masks" not in target
    assert target["boxes"].canvas_size == (HEIGHT, WIDTH) == tuple(image.shape[1:])


def test_masks_come_from_polygons_and_run_lengths(tmp_path: Path) -> None:
    library = coco.mask_library()
    packed = library.frPyObjects(runs(2, 4, 10, 14), HEIGHT, WIDTH)
    if isinstance(packed["counts"], bytes):
        packed["counts"] = packed["counts"].decode()  # as JSON has it
    every = [annotation(1, SQUARE), annotation(2, runs(2, 4, 10, 14)), annotation(3, packed)]
    make(tmp_path, every, "train.json", "train")
    dataset = pickle.loads(pickle.dumps(load("coco", "train", root=tmp_path)))  # as for a loader
    masks = dataset[0][1]["masks"]
    assert isinstance(masks, tv_tensors.Mask)
    expected = torch.zeros(HEIGHT, WIDTH, dtype=torch.uint8)
    expected[2:10, 4:14] = 1
    assert [torch.equal(mask, expected) for mask in masks] == [True] * 3


def test_an_image_without_objects_has_an_empty_target(tmp_path: Path) -> None:
    make(tmp_path, [annotation(1, SQUARE)], "train.json", "train")
    target = load("coco", "train", root=tmp_path)[1][1]
    shapes = {name: list(value.shape) for name, value in target.items()}
    assert shapes == {"boxes": [0, 4], "labels": [0], "masks": [0, HEIGHT, WIDTH]}


def test_crowds_and_boxes_without_area_are_left_out(tmp_path: Path) -> None:
    every = [annotation(1), annotation(2, iscrowd=1), annotation(3, bbox=[1, 1, 0, 5])]
    make(tmp_path, every, "train.json", "train")
    assert len(load("coco", "train", root=tmp_path)[0][1]["labels"]) == 1


def test_a_picture_of_another_size_than_its_annotations_is_broken(tmp_path: Path) -> None:
    make(tmp_path, [annotation(1)], "train.json", "train")
    write(tmp_path / "train/a.png", size=(31, 20))
    sample = load("coco", "train", root=tmp_path)[0]
    assert isinstance(sample, Broken)
    assert "20x31" in sample.reason


def test_without_a_mask_library_the_error_names_the_extra_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, [annotation(1, SQUARE)], "train.json", "train")
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    monkeypatch.setitem(sys.modules, "faster_coco_eval.core.mask", None)
    coco.mask_library.cache_clear()
    with pytest.raises(ImportError, match=r"cvperf\[train\].*masks=False"):
        load("coco", "train", root=tmp_path)
    assert "masks" not in load("coco", "train", root=tmp_path, masks=False)[0][1]


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([annotation(5, category_id=3)], "annotation 5 has category_id 3"),
        ([annotation(1, SQUARE), annotation(6)], "annotation 6 has no segmentation"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, annotations: list[dict[str, Any]], message: str
) -> None:
    make(tmp_path, annotations, "train.json", "train")
    with pytest.raises(ArgumentError, match=message):
        load("coco", "train", root=tmp_path)


def test_a_missing_file_is_named_with_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"instances_train\*.json.*annotations="):
        load("coco", "train", root=tmp_path)
    (tmp_path / "train.json").write_text("[]")
    with pytest.raises(ArgumentError, match="not of COCO's format"):
        load("coco", "train", root=tmp_path)
    (tmp_path / "train.json").write_text('{"images": [')
    with pytest.raises(ArgumentError, match=r"train.json is no JSON, or cut"):
        load("coco", "train", root=tmp_path)
