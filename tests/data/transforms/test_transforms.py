"""Transforms are built from the entries of a recipe, and errors name what is meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from cvperf.data import transforms
from cvperf.data.transforms.table import KNOWN
from cvperf.errors import ArgumentError
from tests.data.transforms.scenes import rectangles

NEEDED: dict[str, dict[str, Any]] = {
    "center_crop": {"size": 64},
    "random_resized_crop": {"size": 64},
    "resize": {"size": 64},
    "pad": {"padding": 3},
    "scale_jitter": {"target_size": [64, 64]},
    "shortest_size": {"min_size": 64},
    "to_float": {"mean": [0.5] * 3, "std": [0.2] * 3},
}


@pytest.mark.parametrize("name", [n for n in KNOWN if "no boxes" not in KNOWN[n].does])
def test_every_known_transform_is_built_and_runs_on_image_boxes_and_masks(name: str) -> None:
    small = v2.Resize((80, 100))
    image, target = small(*rectangles())
    transform = transforms.build([{"name": name, **NEEDED.get(name, {})}])
    changed, after = transform(image, target)
    assert isinstance(changed, tv_tensors.Image)
    assert changed.dtype == (torch.float32 if name == "to_float" else torch.uint8)
    assert after["masks"].shape[-2:] == changed.shape[-2:] == after["boxes"].canvas_size
    assert len(after["labels"]) == len(after["boxes"])


DETECTION = ("iou_crop", "sanitize_boxes", "boxes_from_masks")


@pytest.mark.parametrize("name", [name for name in KNOWN if name not in DETECTION])
def test_pictures_of_one_channel_pass_too(name: str) -> None:
    arguments = {"mean": [0.5], "std": [0.2]} if name == "to_float" else NEEDED.get(name, {})
    grey = tv_tensors.Image(torch.randint(256, (1, 64, 64), dtype=torch.uint8))
    assert transforms.build([{"name": name, **arguments}])(grey, 3)[1] == 3


def test_entries_are_applied_in_order_with_their_arguments() -> None:
    entries = [{"name": "pad", "padding": 2}, {"name": "center_crop", "size": [4, 6]}, "invert"]
    built = transforms.build(entries)
    assert [type(one).__name__ for one in built.transforms] == ["Pad", "CenterCrop", "RandomInvert"]
    image = tv_tensors.Image(torch.zeros(3, 8, 8, dtype=torch.uint8))
    assert built(image, 1)[0].shape == (3, 4, 6)
    assert transforms.build([])(image, 1)[0] is image


def test_any_transform_takes_a_probability() -> None:
    image = tv_tensors.Image(torch.zeros(3, 8, 8, dtype=torch.uint8))
    never = transforms.build([{"name": "pad", "padding": 2, "p": 0}])
    assert never(image, 0)[0].shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["horizontal_flp"], r"unknown transform 'horizontal_flp'; did you mean 'horizontal_flip'"),
        (["xyz"], r"unknown transform 'xyz'\. Known: horizontal_flip, .*to_float"),
        ([{"name": "color_jitter", "brighness": 1}], r"no argument 'brighness'.*'brightness'"),
        ([{"name": "random_crop", "pading": 1}], r"no argument 'pading'.*'padding'.*fill"),
        (["center_crop"], r"'center_crop' needs size"),
        ([{"name": "random_crop", "padding": "x"}], r"'random_crop' with .*'x'"),
        ([{"name": "shadow", "darkness": 2}], r"darkness must be within 0 and 1"),
        ([{"size": 3}], r"a name or a mapping with a name"),
        ("horizontal_flip", r"must be a list"),
    ],
)
def test_errors_name_what_is_wrong_and_what_is_near(entries: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        transforms.build(entries)


def test_known_has_a_line_for_each() -> None:
    known = transforms.known()
    assert set(known) == set(KNOWN)
    assert all(line and "\n" not in line for line in known.values())


def test_the_document_names_each() -> None:
    page = (Path(__file__).parents[3] / "docs/data.md").read_text()
    assert not [name for name in KNOWN if f"`{name}`" not in page]


def test_to_float_normalises() -> None:
    image = tv_tensors.Image(torch.full((1, 2, 2), 51, dtype=torch.uint8))
    changed, _ = transforms.to_float([0.1], [0.5])(image, 0)
    torch.testing.assert_close(changed.as_subclass(torch.Tensor), torch.full((1, 2, 2), 0.2))
