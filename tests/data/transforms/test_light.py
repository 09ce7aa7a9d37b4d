"""Shadows, casts, shifts, JPEG and occluders change what they say, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

from cvperf.data.transforms import ChannelShift, ColorCast, RandomJPEG, RandomOccluder, RandomShadow
from cvperf.errors import ArgumentError
from tests.data.pictures import BLUE, noise, write
from tests.data.transforms.scenes import BOXES, rectangles

EVERY: list[Any] = [
    *(ChannelShift(), ColorCast(), RandomShadow(p=1)),
    *(RandomOccluder(p=1), RandomJPEG()),
]


def even(value: int = 100, size: int = 60) -> tv_tensors.Image:
    return tv_tensors.Image(torch.full((3, size, size), value, dtype=torch.uint8))


@pytest.mark.parametrize("transform", EVERY, ids=lambda one: type(one).__name__)
def test_the_seed_decides_and_boxes_stay(transform: Any) -> None:
    image, target = rectangles()

    def run(seed: int) -> Any:
        torch.manual_seed(seed)
        return transform(image, target)

    first, after = run(1)
    assert torch.equal(first, run(1)[0])
    assert not torch.equal(first, run(2)[0])
    assert not torch.equal(first, image)
    assert after["boxes"].tolist() == [list(map(float, box)) for box in BOXES]
    assert after["labels"] is target["labels"]


@pytest.mark.parametrize("transform", EVERY, ids=lambda one: type(one).__name__)
def test_a_plain_tensor_is_an_image_and_floats_are_refused(transform: Any) -> None:
    image, _ = rectangles()
    changed = transform(image.as_subclass(Tensor))
    assert type(changed) is Tensor
    assert not torch.equal(changed, image)
    with pytest.raises(ArgumentError, match=r"uint8 \[C, H, W\].*float32.*to_float last"):
        transform(image.float())


@pytest.mark.parametrize("kind", [ChannelShift, ColorCast, RandomShadow, RandomOccluder])
def test_probability_is_kept(kind: Any) -> None:
    image, _ = rectangles()
    assert kind(p=0)(image) is image
    some = kind(p=0.5)
    changed = sum(not torch.equal(some(even(100 + i)), even(100 + i)) for i in range(60))
    # An occluder of an even picture cannot be seen.
    assert kind is RandomOccluder or 12 < changed < 48
    with pytest.raises(ArgumentError, match="p must be a probability"):
        kind(p=2)


def test_a_channel_shift_is_even_within_its_limit() -> None:
    shifts = torch.stack([ChannelShift(limit=15)(even())[:, 0, 0].short() - 100 for _ in range(30)])
    assert 8 < shifts.abs().max() <= 15
    assert (shifts[:, 0] != shifts[:, 1]).any()
    assert ChannelShift(50)(even(250)).max() <= 255


def test_a_colour_cast_multiplies_and_keeps_brightness() -> None:
    image = even(100)
    image[:, :30] = 50
    cast = ColorCast(0.4)(image).float()
    ratio = cast[:, 0, 0] / cast[:, 59, 59]
    assert (ratio - 0.5).abs().max() < 0.02
    assert abs(cast[:, 59, 59].mean() - 100) < 1
    assert cast[:, 59, 59].max() - cast[:, 59, 59].min() > 5


def test_a_shadow_darkens_a_part_by_its_darkness_with_a_soft_edge() -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        light = RandomShadow(darkness=0.4, softness=0.05, p=1)(even())[0]
        assert light.min() == 60
        assert 0.03 < (light == 60).float().mean() < 0.95
        assert ((light > 60) & (light < 100)).any()
    hard = RandomShadow(darkness=0.4, softness=0, p=1)(even())
    assert set(hard.unique().tolist()) <= {60, 100}


def test_jpeg_leaves_more_traces_at_lower_quality() -> None:
    image = torch.from_numpy(noise(80, 100).transpose(2, 0, 1).copy())
    errors = [(RandomJPEG(quality)(image).float() - image).abs().mean() for quality in (5, 50, 95)]
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]


@pytest.mark.parametrize("shape", ["ellipse", "rectangle"])
@pytest.mark.parametrize("area", [0.05, 0.3, 0.7])
def test_an_occluder_covers_the_share_that_is_asked(shape: str, area: float) -> None:
    occluder = RandomOccluder(area=area, shape=shape, p=1)
    shares = torch.stack([occluder.draw(3, 90, 120)["covered"].float().mean() for _ in range(20)])
    assert (shares - area).abs().max() < 0.1 * area + 0.01


def test_what_an_occluder_covers_is_gone_from_masks_but_not_from_boxes() -> None:
    image, target = rectangles()
    changed, after = RandomOccluder(area=0.3, p=1)(image, target)
    hidden = (changed != image).any(0)
    lost = target["masks"].bool() & ~after["masks"].bool()
    assert lost.any()
    assert (lost.any(0) & ~hidden).float().mean() < 0.01  # a pixel may be pasted on its like


def test_patches_come_from_a_folder_of_photos(tmp_path: Path) -> None:
    write(tmp_path / "more/blue.png", BLUE)
    changed = RandomOccluder(area=0.2, folder=str(tmp_path), p=1)(even())
    blue = (changed == torch.tensor(BLUE)[:, None, None]).all(0).float().mean()
    assert 0.17 < blue < 0.23
    (tmp_path / "more/blue.png").write_bytes(b"")
    with pytest.raises(RuntimeError, match="the file is empty"):
        RandomOccluder(folder=str(tmp_path))
    with pytest.raises(ArgumentError, match="folder must hold photos"):
        RandomOccluder(folder=str(tmp_path / "none"))
