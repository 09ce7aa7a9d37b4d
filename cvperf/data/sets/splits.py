"""Splits: their names, the folders they lie in, and how one set is divided at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cvperf.errors import ArgumentError, describe

FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
"""Split -> names that its folder or file may have."""


def check_split(split: str, splits: tuple[str, ...] = tuple(FOLDERS)) -> None:
    if split not in splits:
        known = ", ".join(map(repr, splits))
        raise ArgumentError(f"split must be one of {known}; got {describe(split)}")


def split_folder(root: Path, split: str) -> Path | None:
    """The sub-folder of ``root`` that holds a split; ``None`` where none is named after any split.

    Raises:
        ArgumentError: there are folders of splits, but not of this one.
    """
    check_split(split)
    found = {
        name: root / folder
        for name, folders in FOLDERS.items()
        for folder in folders
        if (root / folder).is_dir()
    }
    if "train" not in found:
        return None
    if split not in found:
        raise ArgumentError(
            f"split {split!r} of {root} has no folder; expected one of "
            f"{', '.join(FOLDERS[split])} beside {found['train'].name}. Splits that are there: "
            f"{', '.join(found)}"
        )
    return found[split]


def divide(
    labels: Tensor, split: str, *, validation: float = 0.0, test: float = 0.0, seed: int = 0
) -> Tensor:
    """int64 indices, in order, of one split of a set that is divided at random.

    Each class (of int64 labels) is divided by itself, so that all splits have its share. The same
    seed, labels and fractions give the same split on every machine and version of NumPy.

    Args:
        labels: [N].
        split: ``"train"``, ``"validation"`` or ``"test"``.
        validation: fraction, 0 to 1.
        test: fraction, 0 to 1.
        seed: of the order in which samples are dealt out.
    """
    check_split(split)
    if min(validation, test) < 0 or validation + test >= 1:
        raise ArgumentError(
            "validation and test must be fractions, 0 or more and below 1 together; got "
            f"{validation} and {test}"
        )
    generator = np.random.RandomState(seed)  # NumPy promises that its numbers never change
    single = labels.dtype == torch.int64 and labels.dim() == 1
    groups = labels.numpy() if single else np.zeros(len(labels), np.int64)
    chosen = []
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        dealt = generator.permutation(members)
        first = round(len(dealt) * validation)
        second = first + round(len(dealt) * test)
        parts = {"validation": dealt[:first], "test": dealt[first:second], "train": dealt[second:]}
        chosen.append(parts[split])
    indices = np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)
    if len(indices) == 0:
        raise ArgumentError(
            f"split {split!r} is empty: {len(labels)} samples, validation={validation}, "
            f"test={test}. Give it a larger fraction"
        )
    return torch.from_numpy(indices.astype(np.int64))
