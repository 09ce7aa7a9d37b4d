"""Files of Fashion-MNIST are read as they are laid out."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from cvperf.data import load
from cvperf.errors import ArgumentError


def write(folder: Path, labels: list[int], cut: int = 0) -> None:
    count = len(labels)
    pixels = np.arange(count * 28 * 28, dtype=np.uint32).astype(np.uint8).tobytes()
    sizes = np.array([count, 28, 28], ">i4").tobytes()
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz", "wb") as file:
        file.write(b"\0\0\x08\x03" + sizes + pixels[: len(pixels) - cut])
    with gzip.open(folder / "t10k-labels-idx1-ubyte.gz", "wb") as file:
        file.write(b"\0\0\x08\x01" + np.array([count], ">i4").tobytes() + bytes(labels))


def test_files_are_read_into_one_tensor(tmp_path: Path) -> None:
    write(tmp_path, [7, 0, 9])
    dataset = load("fashion-mnist", "test", root=tmp_path)
    assert dataset.images.shape == (3, 1, 28, 28)  # type: ignore[attr-defined]
    image, label = dataset[2]
    assert int(image[0, 0, 5]) == (2 * 784 + 5) % 256
    assert (label, dataset.classes[label]) == (9, "ankle boot")


def test_a_file_that_is_cut_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [7, 0, 9], cut=1)
    with pytest.raises(ArgumentError, match=r"images-idx3.*cut"):
        load("fashion-mnist", "test", root=tmp_path)


def test_a_folder_without_the_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"no file train-images.*Leave root out"):
        load("fashion-mnist", "train", root=tmp_path)
