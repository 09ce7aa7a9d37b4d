"""Composed scenes: what is said of them is what was pasted."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cvperf.data import load
from cvperf.data.sets import composed
from cvperf.data.sets.composed import BACKGROUNDS
from cvperf.data.sets.composing import Layout, Stock, compose, cut_out
from cvperf.data.sets.rotated import turned
from cvperf.errors import ArgumentError

GREEN = (0, 255, 0)
"""No item has this colour, whatever its tint: items are grey before it."""


def squares(count: int = 30) -> Stock:
    """White squares of 8 to 20 pixels; the class is the side. The photo is green."""
    items, sides = np.zeros((count, 28, 28), np.uint8), np.arange(count) % 13 + 8
    for item, side in zip(items, sides, strict=True):
        item[4 : 4 + side, 4 : 4 + side] = 255
    return Stock(items, sides, [np.full((150, 160, 3), GREEN, np.uint8)])


@pytest.mark.parametrize("index", range(20))
def test_masks_are_the_pixels_that_are_not_the_photo(index: int) -> None:
    scene = compose(squares(), Layout(96, (2, 6), (1.0, 1.5)), (0, index))
    photo = (scene.image == GREEN).all(2)
    assert np.array_equal(scene.masks.sum(0), (~photo).astype(np.uint8))  # no pixel has two owners
    for mask, (left, top, right, bottom) in zip(scene.masks, scene.boxes.astype(int), strict=True):
        inside = mask[top:bottom, left:right]
        assert inside.sum() == mask.sum()
        assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_the_visible_share_is_that_of_the_item_whole() -> None:
    shares = []
    for index in range(40):
        scene = compose(squares(), Layout(64, (5, 5), (1.0, 1.0), visible=0.4), (3, index))
        expected = scene.masks.sum((1, 2)) / scene.labels**2  # a square of known side
        np.testing.assert_allclose(scene.visible, expected, rtol=1e-6)
        assert scene.visible[-1] == 1  # nothing lies on the last one
        shares += scene.visible.tolist()
    assert 0.4 <= min(shares) < 0.6
    assert len(shares) > 40 * 3  # few are left out


def test_a_later_item_hides_an_earlier_one() -> None:
    whole = Stock(np.full((1, 28, 28), 200, np.uint8), np.array([7]), squares().photos)
    scene = compose(whole, Layout(40, (2, 2), (1.0, 1.0), visible=0.0), (0, 0))
    assert scene.labels.tolist() == [7, 7]
    assert scene.masks[1].sum() == 28 * 28
    assert scene.masks[0].sum() < 28 * 28


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_occluders_hide_the_share_that_was_asked_for(share: float) -> None:
    """A square loses whole rows or columns, so the share is met to one of them."""
    for index in range(20):
        key = (5, index)
        plain = compose(squares(), Layout(96, (1, 4), (1.0, 1.5)), key)
        hidden = compose(squares(), Layout(96, (1, 4), (1.0, 1.5), hidden=(share, share)), key)
        assert hidden.labels.tolist() == plain.labels.tolist()
        lines = 1 / np.minimum(*(plain.boxes[:, 2:] - plain.boxes[:, :2]).T)
        left = hidden.visible / plain.visible
        assert (np.abs(left - (1 - share)) <= lines * 1.5).all()
        assert (hidden.masks <= plain.masks).all()  # what is seen was seen before
        assert (hidden.image[hidden.owner > 0] == plain.image[hidden.owner > 0]).all()


def test_occluders_are_of_the_split_s_photos(root: Path) -> None:
    options = {"count": 5, "size": 64, "scale": [1, 1.5], "root": root, "kind": "detection"}
    for image, target in load("composed", "test", hidden=[0.2, 0.6], **options):
        around = image[:, target["masks"].sum(0) == 0]
        assert set(around.unique().tolist()) <= {13, 14}  # the greys of the test's two photos


def test_an_item_keeps_its_dark_inside_and_loses_faint_noise_around_it() -> None:
    item = np.zeros((28, 28), np.uint8)
    item[5:20, 5:20] = 200
    item[8:12, 8:12] = 0
    item[25, 2:9] = 3
    expected = np.zeros((28, 28), bool)
    expected[5:20, 5:20] = True
    assert np.array_equal(cut_out(item), expected)


def test_a_scene_follows_from_its_key_alone() -> None:
    first, again, other = (
        compose(squares(), Layout(), key).image for key in ((1, 0, 5), (1, 0, 5), (1, 0, 6))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files as Fashion-MNIST's: item i of training is i + 30 all over, of test 255 - i; a photo is
    black but for its number among all photos, which is below any item's grey."""
    names = [name for group in BACKGROUNDS.values() for name in group]
    blank = {
        name: Image.new("RGB", (90, 90), (number,) * 3) for number, name in enumerate(names, 1)
    }
    monkeypatch.setattr(composed, "photo", blank.__getitem__)
    for part, greys in (("train", range(30, 130)), ("t10k", range(255, 235, -1))):
        pixels = bytes(grey for grey in greys for _ in range(28 * 28))
        for kind, content, sizes in (
            ("images-idx3", pixels, [len(greys), 28, 28]),
            ("labels-idx1", bytes(i % 10 for i in range(len(greys))), [len(greys)]),
        ):
            with gzip.open(tmp_path / f"{part}-{kind}-ubyte.gz", "wb") as file:
                shape = np.array(sizes, ">i4").tobytes()
                file.write(bytes((0, 0, 8, len(sizes))) + shape + content)
    return tmp_path


def test_splits_share_neither_photos_nor_items(root: Path) -> None:
    stocks = {split: composed._stock(split, root) for split in BACKGROUNDS}
    photos = {split: {int(one[0, 0, 0]) for one in stock.photos} for split, stock in stocks.items()}
    assert {name: len(found) for name, found in photos.items()} == {
        "train": 10,
        "validation": 2,
        "test": 2,
    }
    assert len(set.union(*photos.values())) == 14
    items = {split: {int(item[0, 0]) for item in stock.items} for split, stock in stocks.items()}
    assert items["train"] | items["validation"] == set(range(30, 130))
    assert len(items["train"] & items["validation"]) == 0
    assert items["test"] == set(range(236, 256))


@pytest.mark.parametrize("kind", ["labels", "detection"])
def test_grey_pictures_are_the_same_scenes(root: Path, kind: str) -> None:
    options = {"count": 3, "size": 64, "scale": [1, 1.5], "root": root, "kind": kind}
    coloured = load("composed", "test", **options)
    grey = load("composed", "test", channels=1, **options)
    for (one, _), (other, _) in zip(coloured, grey, strict=True):
        luma = (one.double() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0)
        assert other.shape == (1, 64, 64)
        assert (other[0] - luma).abs().max() <= 1


def test_kinds_tell_the_same_of_the_same_scenes(root: Path) -> None:
    options = {"count": 12, "size": 64, "scale": [1, 1.5], "root": root}
    several = load("composed", "test", kind="labels", **options)
    boxes = load("composed", "test", kind="detection", **options)
    assert (len(several), len(boxes), boxes.labels) == (12, 12, None)
    for index in range(12):
        (image, present), (same, target) = several[index], boxes[index]
        assert torch.equal(image, same)
        assert image.shape == (3, 64, 64)
        assert present.dtype == torch.float32
        assert present.nonzero().flatten().tolist() == target["labels"].unique().tolist()
        assert target["masks"].shape == (len(target["labels"]), 64, 64)
        assert target["boxes"].canvas_size == (64, 64)
        assert target["visible"].dtype == torch.float32


def test_a_split_may_have_a_count_of_its_own(root: Path) -> None:
    count = {"train": 3, "test": 2}
    assert len(load("composed", "test", count=count, size=64, root=root)) == 2
    with pytest.raises(ArgumentError, match="count has no 'validation', only train, test"):
        load("composed", "validation", count=count, size=64, root=root)


def test_a_split_may_have_as_many_items_as_it_likes(root: Path) -> None:
    options = {"count": 8, "size": 90, "scale": [1, 1], "visible": 0, "root": root}
    items = {"train": [6, 6], "test": [1, 1]}
    for split, (number, _) in items.items():
        scenes = load("composed", split, kind="detection", items=items, **options)
        assert {len(target["labels"]) for _, target in scenes} == {number}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "boxes"}, "kind must be one of labels, detection"),
        ({"items": [3, 1]}, "items must be two numbers in order, 1 or more"),
        ({"channels": 2}, "channels must be 3, or 1 for grey, got 2"),
        ({"hidden": 0.95}, "hidden must be two numbers in order, 0 to 0.9, got"),
        ({"scale": 2.0}, "scale must be two numbers in order"),
        ({"size": 40}, r"size must be 56 \(the largest item, scale 2.0\) to 90"),
        ({"size": 128}, "to 90 .*got 128"),
    ],
)
def test_what_does_not_fit_is_named(options: dict, message: str, root: Path) -> None:
    with pytest.raises(ArgumentError, match=message):
        load("composed", "train", **{"size": 64, "root": root, **options})


def test_pictures_are_turned_counterclockwise_by_the_angle() -> None:
    image = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    image[:, :, 12:16, 20:26] = 255  # right of the middle
    quarter, back = turned(image, torch.tensor([torch.pi / 2, -torch.pi / 2]))
    assert int(quarter[0, 2:8, 12:16].min()) > 200  # above it
    assert int(back[0, 20:26, 12:16].min()) > 200  # below it


def test_angles_are_the_labels_of_rotated_pictures(root: Path) -> None:
    train = load("rotated", "train", degrees=30, root=root)
    assert train.labels.dtype == torch.float32  # type: ignore[union-attr]
    assert train.classes == ()
    assert 0.45 < float(train.labels.abs().max()) <= np.radians(30)  # type: ignore[union-attr]
    whole = load("fashion-mnist", "train", root=root)
    assert torch.equal(train.images, turned(whole.images, train.labels))  # type: ignore[attr-defined]
    with pytest.raises(ArgumentError, match="degrees must be above 0"):
        load("rotated", "train", degrees=0, root=root)
