"""What a recipe does to its images before a run: test images shifted, labels far off."""

from __future__ import annotations

import pytest
import torch

from cvperf.data import InMemory, outliers
from cvperf.errors import ArgumentError
from cvperf.train import sets
from cvperf.train.recipe import Data

SHIFT = [{"name": "rotation", "degrees": 20}, {"name": "brightness", "brightness": 0.3}]


def pixels(images) -> torch.Tensor:
    return torch.stack([images[index][0] for index in range(0, len(images), 20)])


def test_a_shift_changes_test_images_alone_and_always_alike():
    plain, shifted = (
        sets.load(Data("digits", holdout=0.2, shift=shift), seed=0) for shift in ([], SHIFT)
    )
    assert torch.equal(pixels(plain.train), pixels(shifted.train))
    assert torch.equal(pixels(plain.validation), pixels(shifted.validation))
    assert torch.equal(plain.test.labels, shifted.test.labels)
    same = (pixels(plain.test) == pixels(shifted.test)).flatten(1).all(1)
    assert not same.any()
    again = sets.load(Data("digits", holdout=0.2, shift=SHIFT), seed=5)
    assert torch.equal(pixels(shifted.test), pixels(again.test))


def test_a_shift_needs_test_images():
    with pytest.raises(ArgumentError, match=r"data\.shift changes test images"):
        sets.load(Data("digits", holdout=0.2, test="", shift=SHIFT), seed=0)


def numbers(count: int) -> InMemory:
    labels = torch.linspace(-1, 1, count)
    return InMemory(torch.zeros(count, 1, 2, 2, dtype=torch.uint8), labels, ())


def test_outliers_lie_far_away_on_both_sides():
    whole = numbers(2000)
    changed = outliers(whole, 0.1, distance=5, seed=2)
    moved = changed.labels != whole.labels
    assert int(moved.sum()) == 200
    away = (changed.labels[moved] - whole.labels.mean()) / whole.labels.std()
    assert float(away.abs().min()) >= 5
    assert float(away.abs().max()) <= 10
    assert 70 < int((away > 0).sum()) < 130
    assert torch.equal(changed.labels, outliers(whole, 0.1, distance=5, seed=2).labels)


def test_outliers_of_what_has_no_number_are_refused():
    classes = InMemory(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0]), "ab")
    with pytest.raises(ArgumentError, match=r"labels float \[N\]; got int64"):
        outliers(classes, 0.1)
    with pytest.raises(ArgumentError, match="fraction must be 0 to 1 and distance above 0"):
        outliers(numbers(3), 1.5)
