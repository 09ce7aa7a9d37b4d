"""Composed digits on photos, with photos of one colour in their place."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from cvperf.data import load
from cvperf.data.sets import digits_on_photos
from cvperf.data.sets.base import InMemory
from cvperf.errors import ArgumentError


def pixels(name: str, split: str, **options: int) -> torch.Tensor:
    dataset = load(name, split, **options)
    assert isinstance(dataset, InMemory)
    return dataset.images


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the photos that were asked for; each is (200, 100, 0) all over."""
    names: set[str] = set()

    def photo(name: str) -> Image.Image:
        names.add(name)
        return Image.new("RGB", (40, 30), (200, 100, 0))

    monkeypatch.setattr(digits_on_photos, "photo", photo)
    return names


def test_a_digit_is_the_negative_of_its_place(asked: set[str]) -> None:
    found = pixels("digits-on-photos", "train", size=8).int()
    digit = pixels("digits", "train", half=2).int()
    place = torch.tensor([200, 100, 0]).view(3, 1, 1)
    assert torch.equal(found, (place - digit).abs())


def test_training_and_test_share_no_photo(asked: set[str]) -> None:
    assert pixels("digits-on-photos", "train").shape == (719, 3, 16, 16)
    trained = set(asked)
    asked.clear()
    assert pixels("digits-on-photos", "test").shape == (359, 3, 16, 16)
    assert not trained & asked


def test_halves_of_the_digits_are_apart_and_together_all_of_them() -> None:
    def keys(half: int) -> list[bytes]:
        return [image.numpy().tobytes() for image in pixels("digits", "train", half=half)]

    assert sorted(keys(1) + keys(2)) == sorted(keys(0))
    assert torch.equal(pixels("digits", "test", half=2), pixels("digits", "test"))
    with pytest.raises(ArgumentError, match="half must be 1, 2"):
        load("digits", "train", half=3)
