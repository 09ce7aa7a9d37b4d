"""``load`` knows data sets by name, and says what it knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cvperf.data import load
from cvperf.errors import ArgumentError


def test_digits_have_a_fixed_split_without_overlap() -> None:
    train, test = load("digits", "train"), load("digits", "test")
    assert (len(train), len(test)) == (1438, 359)
    assert train.labels is not None
    assert torch.bincount(train.labels).min() > 130
    assert train[0][0].shape == (1, 8, 8)
    assert int(train.images.max()) == 255  # type: ignore[attr-defined]
    assert train.labels[:8].tolist() == load("digits", "train").labels[:8].tolist()  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "fashion",
            {},
            "fashion-mnist, digits, digits-on-photos, faces, composed",
        ),
        ("folder", {}, "needs root="),
        ("digits", {"root": "x"}, "no option 'root'; it takes half"),
        ("csv", {"root": "x", "lable": "y"}, "no option 'lable'; it takes root, .*label"),
        ("folder", {"root": "no-such-folder"}, "root must be a folder"),
    ],
)
def test_what_does_not_fit_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        load(name, "train", **options)


@pytest.mark.parametrize("name", ["digits", "folder", "csv", "coco", "hugging-face"])
def test_an_unknown_split_is_refused(name: str, tmp_path: Path) -> None:
    root = {} if name == "digits" else {"root": tmp_path}
    with pytest.raises(ArgumentError, match=r"split must be one of 'train'.*'dev'"):
        load(name, "dev", **root)  # type: ignore[arg-type]
