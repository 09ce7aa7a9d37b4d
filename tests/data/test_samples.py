"""Samples become batches; broken ones are left out and reported."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision import tv_tensors

from cvperf.data import Broken, collate
from cvperf.errors import ArgumentError


def image(value: int = 0, height: int = 4) -> tv_tensors.Image:
    return tv_tensors.Image(torch.full((3, height, 5), value, dtype=torch.uint8))


def test_broken_samples_are_left_out_and_reported() -> None:
    broken = Broken("a.jpg", "the file is empty")
    batch = collate([(image(1), 7), broken, (image(2), 9)])
    assert batch.images[:, 0, 0, 0].tolist() == [1, 2]
    assert batch.targets.tolist() == [7, 9]
    assert batch.broken == [broken]


def test_a_batch_of_broken_samples_alone_is_empty() -> None:
    batch = collate([Broken("a", "x"), Broken("b", "y")])
    assert len(batch.images) == len(batch.targets) == 0
    assert [sample.path for sample in batch.broken] == ["a", "b"]


@pytest.mark.parametrize(
    ("target", "dtype", "shape"),
    [(3, torch.int64, [2]), (0.5, torch.float32, [2]), (torch.ones(4), torch.float32, [2, 4])],
)
def test_targets_become_one_tensor(target: Any, dtype: torch.dtype, shape: list[int]) -> None:
    targets = collate([(image(), target)] * 2).targets
    assert targets.dtype == dtype
    assert list(targets.shape) == shape


def test_targets_of_detection_stay_apart() -> None:
    targets = [{"labels": torch.arange(n)} for n in (0, 3)]
    assert collate([(image(), target) for target in targets]).targets == targets


def test_images_to_detect_in_may_have_several_sizes() -> None:
    batch = collate([(image(1), {"labels": torch.arange(1)}), (image(2, 6), {})])
    assert [list(one.shape) for one in batch.images] == [[3, 4, 5], [3, 6, 5]]
    assert type(batch.images[0]) is torch.Tensor


@pytest.mark.parametrize("several", [False, True], ids=["of one size", "of several sizes"])
def test_a_batch_is_cut_into_parts(several: bool) -> None:
    samples = [(image(n, 4 + n * several), {"labels": torch.tensor([n])}) for n in range(5)]
    parts = collate([*samples, Broken("a", "x")]).parts(3)
    assert [len(part.images) for part in parts] == [1, 2, 2]
    flat = [one for part in parts for one in zip(part.images, part.targets, strict=True)]
    assert [int(picture[0, 0, 0]) for picture, _ in flat] == [0, 1, 2, 3, 4]
    assert [int(target["labels"]) for _, target in flat] == [0, 1, 2, 3, 4]
    assert all(part.broken == [] for part in parts)


def test_no_part_of_a_batch_is_empty() -> None:
    batch = collate([(image(), 0), (image(), 1)])
    assert [part.targets.tolist() for part in batch.parts(5)] == [[0], [1]]
    assert collate([Broken("a", "x")]).parts(2) == []


def test_images_are_plain_tensors() -> None:
    assert type(collate([(image(), 0)]).images) is torch.Tensor


def test_several_sizes_are_refused_with_the_way_out() -> None:
    with pytest.raises(ArgumentError, match=r"\[3, 4, 5\], \[3, 6, 5\].*resize"):
        collate([(image(), 0), (image(height=6), 0)])


def test_an_unknown_sort_of_target_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"target must be.*'cat'"):
        collate([(image(), "cat")])
