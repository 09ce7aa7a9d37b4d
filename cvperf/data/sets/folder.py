"""A folder of images in a sub-folder for each class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cvperf.data.images import EXTENSIONS
from cvperf.data.samples import ImageSet
from cvperf.data.sets.base import ImageFiles, select
from cvperf.data.sets.splits import divide, split_folder
from cvperf.errors import ArgumentError


def load(
    split: str,
    root: str | Path,
    *,
    validation: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    **options: Any,
) -> ImageSet:
    """``root/train/CLASS/*.jpg`` with ``val`` and ``test`` beside, or ``root/CLASS/*.jpg``.

    Sub-folders of a class's folder count to the class. Files that do not end as an image
    (:data:`cvperf.data.images.EXTENSIONS`) are left out.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``.
        root: the folder.
        validation: the fraction of each class for this split, where there are no folders of splits.
        test: as ``validation``.
        seed: of the random split.
        options: ``color`` and ``broken`` of :class:`~cvperf.data.sets.base.ImageFiles`.
    """
    root = existing(root)
    chosen = split_folder(root, split)
    if chosen is None:
        whole = _files(root, _classes(root), options)
        assert whole.labels is not None
        return select(
            whole, divide(whole.labels, split, validation=validation, test=test, seed=seed)
        )
    train = split_folder(root, "train")
    assert train is not None
    classes = _classes(train)
    if unknown := sorted(set(_classes(chosen)) - set(classes)):
        raise ArgumentError(
            f"{chosen} has classes that {train.name} has not: {', '.join(unknown)}. Classes of "
            f"{train.name}: {', '.join(classes)}"
        )
    return _files(chosen, classes, options, complete=chosen == train)


def existing(root: str | Path) -> Path:
    """``root`` as a path to a folder that is there."""
    root = Path(root).expanduser()
    if not root.is_dir():
        raise ArgumentError(f"root must be a folder, got {root}, which is none")
    return root


def _classes(root: Path) -> list[str]:
    # Names such as .ipynb_checkpoints are of tools, not classes.
    names = [entry.name for entry in root.iterdir() if entry.is_dir()]
    return sorted(name for name in names if not name.startswith("."))


def _is_image(path: str) -> bool:
    # Systems write files such as ._photo.jpg beside those they copy.
    return path.lower().endswith(EXTENSIONS) and not Path(path).name.startswith(".")


def _files(
    root: Path, classes: list[str], options: dict[str, Any], complete: bool = True
) -> ImageFiles:
    """All images of ``root``; where it is to be complete, each class must have one."""
    from torchvision.datasets.folder import make_dataset

    if not classes:
        raise ArgumentError(f"{root} has no folder for a class; expected {root}/CLASS/IMAGE.jpg")
    numbers = {name: number for number, name in enumerate(classes)}
    found = make_dataset(root, numbers, is_valid_file=_is_image, allow_empty=True)
    labels = torch.tensor([number for _, number in found], dtype=torch.int64)
    if empty := [name for name, number in numbers.items() if complete and number not in labels]:
        raise ArgumentError(
            f"class folders of {root} hold no image: {', '.join(empty)}. Remove them or fill them; "
            f"endings that count: {' '.join(EXTENSIONS)}"
        )
    if not found:
        raise ArgumentError(f"{root} holds no image of the classes {', '.join(classes)}")
    return ImageFiles([Path(path) for path, _ in found], labels, classes, **options)
