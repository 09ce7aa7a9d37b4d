"""Pieces of annotated pictures, and the two sets that are cut so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cvperf.data import load
from cvperf.data.sets import nuclei, trees
from cvperf.data.sets.tiles import Tile, Tiles, apart, boxes_of, overlapping
from cvperf.errors import ArgumentError


def tile(boxes: list[list[float]], size: tuple[int, int] = (20, 30)) -> Tile:
    labels = torch.arange(len(boxes))
    image = torch.arange(size[0] * size[1]).remainder(251).to(torch.uint8).reshape(1, *size)
    return Tile(image.expand(3, -1, -1), torch.tensor(boxes).float(), labels)


def owned() -> Tile:
    """Three objects of 4x4 pixels, by the pixel."""
    owner = torch.zeros(20, 30, dtype=torch.int32)
    for number, (top, left) in enumerate([(1, 1), (8, 13), (15, 25)], 1):
        owner[top : top + 4, left : left + 4] = number
    plain = tile([[0, 0, 1, 1]] * 3)
    return Tile(plain.image, boxes_of(owner, 3), torch.tensor([5, 6, 7]), owner)


def test_squares_to_train_on_cover_an_area_to_its_end() -> None:
    squares = overlapping((0, 10, 20, 40), 12, 5)
    seen = np.zeros((20, 40), bool)
    for top, left, bottom, right in squares:
        assert (bottom - top, right - left) == (12, 12)
        seen[top:bottom, left:right] = True
    assert seen[:, 10:].all()
    assert not seen[:, :10].any()


def test_pieces_apart_share_no_pixel_and_leave_none_out() -> None:
    count = np.zeros((35, 50), int)
    for top, left, bottom, right in apart((3, 7, 35, 50), 10):
        assert 8 <= bottom - top <= 12
        assert 8 <= right - left <= 12
        count[top:bottom, left:right] += 1
    assert (count[3:, 7:] == 1).all()
    assert count.sum() == 32 * 43


@pytest.mark.parametrize(("size", "stride"), [(21, 5), (0, 5), (10, 0)])
def test_a_size_that_does_not_fit_is_refused(size: int, stride: int) -> None:
    with pytest.raises(ArgumentError, match="size must be 1 to 20, the smallest picture"):
        overlapping((0, 0, 20, 30), size, stride)


def test_a_piece_has_the_boxes_of_which_it_has_half() -> None:
    whole = tile([[0, 0, 4, 4], [8, 2, 12, 6], [9, 2, 13, 6], [7, 2, 11, 6], [20, 8, 25, 12]])
    piece = whole.cut((2, 0, 12, 10))
    assert piece.labels.tolist() == [0, 1, 3]
    assert piece.boxes.tolist() == [[0, 0, 4, 2], [8, 0, 10, 4], [7, 0, 10, 4]]
    assert torch.equal(piece.image, whole.image[:, 2:12, :10])


def test_a_piece_has_the_masks_of_which_it_has_half() -> None:
    image, target = Tiles([owned().cut((0, 0, 10, 20))], "abcdefgh")[0]
    assert image.shape == (3, 10, 20)
    assert target["labels"].tolist() == [5, 6]
    assert target["boxes"].tolist() == [[1, 1, 5, 5], [13, 8, 17, 10]]
    assert target["masks"].flatten(1).sum(1).tolist() == [16, 8]
    assert target["masks"].shape == (2, 10, 20)


def test_what_is_too_small_a_part_is_no_object_and_no_mask() -> None:
    piece = owned().cut((0, 0, 9, 20))
    assert piece.labels.tolist() == [5]
    assert piece.owner is not None
    assert piece.owner.unique().tolist() == [0, 1]
    assert len(owned().cut((0, 5, 8, 13)).labels) == 0


def test_a_piece_without_objects_is_a_sample_too() -> None:
    for whole in (owned(), tile([[0, 0, 4, 4]])):
        _, target = Tiles([whole.cut((6, 18, 12, 24))], "a" * 8)[0]
        assert target["boxes"].shape == (0, 4)
        assert target["labels"].shape == (0,)
    assert Tiles([owned().cut((6, 18, 12, 24))], "a" * 8)[0][1]["masks"].shape == (0, 6, 6)


@pytest.fixture
def forest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tiles as deepforest's, but small: each grey is its own."""
    folder = tmp_path / "deepforest/data"
    folder.mkdir(parents=True)
    names = [name for areas in trees.AREAS.values() for name, _ in areas]
    for grey, name in enumerate(dict.fromkeys(names), 50):
        Image.new("RGB", (60, 40), (grey, grey, grey)).save(folder / f"{name}.png")
        box = "<bndbox><xmin>3</xmin><ymin>5</ymin><xmax>10</xmax><ymax>20</ymax></bndbox>"
        objects = f"<object><name>Tree</name>{box}</object>" * 2
        (folder / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    first, *rest = trees.AREAS["train"]
    areas = {"train": ((first[0], (0, 0, 40, 30)), *rest), "test": trees.AREAS["test"]}
    areas["validation"] = ((first[0], (0, 30, 40, 60)),)
    monkeypatch.setattr(trees, "AREAS", areas)
    monkeypatch.setattr(trees, "fetch", lambda name: tmp_path)


@pytest.mark.usefixtures("forest")
def test_trees_to_test_on_are_of_a_tile_of_their_own() -> None:
    greys = {
        split: {int(image.max()) for image, _ in load("trees", split, size=20)}
        for split in ("train", "validation", "test")
    }
    assert greys == {"train": {50, 51, 52}, "validation": {50}, "test": {53}}


@pytest.mark.usefixtures("forest")
def test_trees_have_the_boxes_of_their_file() -> None:
    _, target = load("trees", "test", size=60)[0]
    assert target["boxes"].tolist() == [[2, 4, 10, 20]] * 2
    assert target["labels"].tolist() == [0, 0]
    assert load("trees", "train", size=20).labels is None
    assert load("trees", "train", size=20).classes == ("tree",)


def test_trees_for_validation_are_no_part_of_those_to_train_on() -> None:
    name, area = trees.AREAS["train"][0]
    other, held = trees.AREAS["validation"][0]
    assert name == other
    assert area is not None
    assert held is not None
    assert area[3] <= held[1]
    assert trees.AREAS["test"][0][0] not in [name for name, _ in trees.AREAS["train"]]


@pytest.fixture
def microscope(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A picture of which each half has a grey, with nuclei of 8x8 pixels every 64."""
    folder = tmp_path / "stardist/data/images"
    folder.mkdir(parents=True)
    picture = np.full((512, 512), 40, np.uint16)
    picture[:, 256:] = 200
    numbers = np.zeros((512, 512), np.uint16)
    for count, place in enumerate(np.ndindex(8, 8)):
        top, left = np.multiply(place, 64) + 5
        numbers[top : top + 8, left : left + 8] = 2 * count + 1  # odd ones alone
    Image.fromarray(picture).save(folder / "img2d.tif")
    Image.fromarray(numbers).save(folder / "mask2d.tif")
    monkeypatch.setattr(nuclei, "fetch", lambda name: tmp_path)


@pytest.mark.usefixtures("microscope")
def test_nuclei_to_test_on_are_in_the_other_half() -> None:
    counts = {}
    for split, grey in (("train", 40), ("validation", 40), ("test", 200)):
        images = load("nuclei", split)
        assert {int(image.min()) for image, _ in images} == {grey}
        masks = torch.cat([target["masks"] for _, target in images])
        assert set(masks.flatten(1).sum(1).tolist()) == {64}
        counts[split] = (len(images), len(masks))
    assert counts["validation"] == (2, 8)
    assert counts["test"] == (8, 32)
    assert counts["train"][0] == 15
    rows = [area for split, area in nuclei.AREAS.items() if split != "test"]
    assert rows[0][2] <= rows[1][0]


@pytest.mark.usefixtures("microscope")
def test_nuclei_have_boxes_tight_around_their_masks() -> None:
    image, target = load("nuclei", "test")[0]
    assert image.shape == (3, 128, 128)
    assert image.dtype == torch.uint8
    assert target["boxes"].tolist()[:2] == [[5, 5, 13, 13], [69, 5, 77, 13]]
