"""Boxes and masks go where the pixels go."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import box_iou, masks_to_boxes

from cvperf.data import transforms
from cvperf.data.transforms.table import KNOWN
from tests.data.transforms.scenes import BOXES, rectangles

EXACT: list[Any] = [
    {"name": "horizontal_flip", "p": 1},
    {"name": "vertical_flip", "p": 1},
    {"name": "rotation", "degrees": [90, 90]},
    {"name": "rotation", "degrees": [90, 90], "expand": True},
    {"name": "affine", "degrees": [90, 90], "translate": None, "scale": None, "shear": None},
    "translation",
    "scale",
    {"name": "random_crop", "padding": 20},
    {"name": "random_crop", "size": [330, 400]},
    {"name": "random_resized_crop", "size": [400, 400], "scale": [0.5, 1]},
    {"name": "center_crop", "size": 350},
    {"name": "pad", "padding": 13},
    {"name": "zoom_out", "p": 1},
    {"name": "resize", "size": 300},
    {"name": "resize", "size": [500, 400]},
    {"name": "scale_jitter", "target_size": [400, 500], "scale_range": [0.9, 1.3]},
    {"name": "shortest_size", "min_size": [300, 433]},
]
# A filled rectangle, turned, fills the box around its four corners where it is within the picture.
TURNED: list[Any] = [
    {"name": "rotation", "degrees": [30, 30], "expand": True},
    {"name": "affine", "degrees": 5, "translate": None, "scale": [0.7, 0.8], "shear": 5},
    {"name": "perspective", "p": 1, "distortion_scale": 0.3},
    "elastic",
    {"name": "elastic", "alpha": 200, "sigma": 10},
]
CHOOSING: list[Any] = ["iou_crop", "sanitize_boxes"], ["affine", "boxes_from_masks"]


def overlaps(entries: Any) -> list[float]:
    """IoU of each warped box with the tight box of its warped mask."""
    transform = transforms.build(entries if isinstance(entries, list) else [entries])
    found = []
    for box in BOXES:
        _, target = transform(*rectangles([box], channels=1))
        for box, mask in zip(target["boxes"], target["masks"], strict=True):
            if mask.sum() < 5000:
                continue  # a sliver at the edge: one pixel of rounding is a large part of it
            tight = masks_to_boxes(mask[None].as_subclass(Tensor)).float()
            tight[:, 2:] += 1
            found.append(box_iou(box[None].as_subclass(Tensor), tight).item())
    return found


@pytest.mark.parametrize("entries", EXACT + TURNED + list(CHOOSING), ids=str)
def test_warped_boxes_fit_warped_masks(entries: Any) -> None:
    found = overlaps(entries)
    assert len(found) >= 1
    assert min(found) >= 0.98


def test_every_geometric_transform_is_tested_here() -> None:
    tested = {
        entry if isinstance(entry, str) else entry["name"]
        for entries in EXACT + TURNED + list(CHOOSING)
        for entry in (entries if isinstance(entries, list) else [entries])
    }
    names = list(KNOWN)
    geometric = names[: names.index("color_jitter")]
    assert set(geometric) == tested


def test_a_turned_object_that_does_not_fill_its_box_is_boxed_tightly_from_its_mask() -> None:
    image, target = rectangles()
    y, x = torch.meshgrid(torch.arange(400), torch.arange(500), indexing="ij")
    left, top, right, bottom = BOXES[0]
    ellipse = ((x - 150) / 100) ** 2 + ((y - 125) / 85) ** 2 <= 1
    target["masks"] = tv_tensors.Mask(target["masks"][:1].as_subclass(Tensor) * ellipse)
    target["boxes"] = tv_tensors.wrap(
        torch.tensor([[left, top, right, bottom]]).float(), like=target["boxes"]
    )
    target["labels"] = torch.tensor([5])
    turn = {"name": "rotation", "degrees": [30, 30], "expand": True}
    loose = transforms.build([turn])(image, target)[1]["boxes"]
    tight = transforms.build([turn, "boxes_from_masks"])(image, target)[1]
    iou = box_iou(loose.as_subclass(Tensor), tight["boxes"].as_subclass(Tensor)).item()
    assert 0.5 < iou < 0.8
    assert (loose[:, :2] <= tight["boxes"][:, :2]).all()
    assert (loose[:, 2:] >= tight["boxes"][:, 2:]).all()
    assert tight["labels"].tolist() == [5]


def test_objects_of_which_nothing_is_left_are_dropped() -> None:
    image, target = rectangles()
    target["masks"][1] = 0
    _, left = transforms.build(["boxes_from_masks"])(image, target)
    assert left["labels"].tolist() == [0, 2]
    assert len(left["boxes"]) == len(left["masks"]) == 2
    assert left["boxes"].tolist() == [list(BOXES[0]), list(BOXES[2])]


def test_what_is_said_of_an_object_goes_with_its_box() -> None:
    image, target = rectangles()
    target["visible"] = torch.tensor([0.5, 0.6, 0.7])
    entries = [{"name": "random_crop", "size": 60}, "sanitize_boxes"]
    kept = [transforms.build(entries)(image, target)[1] for _ in range(30)]
    assert {len(one["boxes"]) for one in kept} >= {0, 1}
    for one in kept:
        assert len(one["boxes"]) == len(one["masks"]) == len(one["labels"])
        assert torch.equal(one["visible"], target["visible"][one["labels"]])
        assert (one["boxes"][:, 2:] > one["boxes"][:, :2]).all()


def test_a_crop_without_size_keeps_each_pictures_own() -> None:
    crop = transforms.build([{"name": "random_crop", "padding": 4}])
    for shape in ((3, 20, 30), (1, 8, 8)):
        picture = tv_tensors.Image(torch.full(shape, 7, dtype=torch.uint8))
        shapes = {tuple(crop(picture, 0)[0].shape) for _ in range(5)}
        assert shapes == {shape}
    moved = {int((crop(picture, 0)[0] == 0).sum()) for _ in range(20)}
    assert len(moved) > 3
