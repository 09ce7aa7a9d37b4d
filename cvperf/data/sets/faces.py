"""Faces and what is none: 200 pictures of Labeled Faces in the Wild, 25x25, grey."""

from __future__ import annotations

import numpy as np
import torch

from cvperf.data.packages import fetch
from cvperf.data.sets.base import InMemory
from cvperf.data.sets.splits import check_split
from cvperf.errors import ArgumentError, describe

CLASSES = ("other", "face")
FOLDS = 5


def load(split: str, fold: int = 0, folds: int = FOLDS) -> InMemory:
    """Split ``"train"`` or ``"test"``, images uint8 [N, 1, 25, 25].

    scikit-image's ``lfw_subset``: 100 faces, and 100 patches of the pictures beside them.

    Args:
        split: which.
        fold: 0 to ``folds - 1``: the part of each class that is ``"test"``; the rest is
            ``"train"``.
        folds: into how many parts, always the same ones, each class is divided.

    Raises:
        ArgumentError: there is no such split or fold.
        PackageError: the package could not be fetched.
    """
    check_split(split, ("train", "test"))
    if not (isinstance(folds, int) and 2 <= folds <= 100):
        raise ArgumentError(f"folds must be 2 to 100, the pictures of a class; got {folds!r}")
    if not (isinstance(fold, int) and 0 <= fold < folds):
        raise ArgumentError(f"fold must be 0 to {folds - 1}, got {describe(fold)}")
    pixels = np.load(fetch("scikit-image") / "skimage/data/lfw_subset.npy", allow_pickle=False)
    images = torch.from_numpy((pixels * 255).round().astype(np.uint8)).unsqueeze(1)
    labels = torch.tensor([1, 0]).repeat_interleave(100)  # the faces come first
    part = torch.cat([_dealt(100, folds), _dealt(100, folds)])
    chosen = (part == fold) == (split == "test")
    return InMemory(images[chosen], labels[chosen], CLASSES)


def _dealt(count: int, folds: int) -> torch.Tensor:
    """int64 [count]: the fold of each picture of a class, at random since neighbours are alike."""
    # NumPy promises that these numbers never change.
    return torch.from_numpy(np.random.RandomState(0).permutation(count) % folds)
