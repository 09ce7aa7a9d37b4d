"""Data sets that Hugging Face's ``datasets`` wrote with ``save_to_disk``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from cvperf.data.images import Color, UnreadableImageError, read_image
from cvperf.data.samples import ImageSet
from cvperf.data.sets.base import Policy, as_target, broken_sample, check_policy, select
from cvperf.data.sets.labels import class_names, encode, kind_of
from cvperf.data.sets.splits import FOLDERS, check_split, divide
from cvperf.errors import ArgumentError


class SavedImages(Dataset[Any]):
    """The rows of one ``datasets.Dataset``; its images are decoded here, broken ones included."""

    def __init__(
        self,
        rows: Any,
        column: str,
        labels: Tensor,
        classes: tuple[str, ...],
        *,
        color: Color = "RGB",
        broken: Policy = "skip",
    ) -> None:
        import datasets

        check_policy(broken)
        self.rows = rows.cast_column(column, datasets.Image(decode=False))
        self.column = column
        self.labels = labels
        self.classes = classes
        self.color: Color = color
        self.broken: Policy = broken

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        stored = self.rows[int(index)][self.column]
        name = stored["path"] or f"row {index}"
        try:
            image = read_image(name, self.color, content=stored["bytes"])
        except UnreadableImageError as error:
            return broken_sample(error, self.broken)
        return image, as_target(self.labels[index])


def load(
    split: str,
    root: Path,
    *,
    label: str,
    validation: float,
    test: float,
    seed: int,
    **options: Any,
) -> ImageSet:
    """One split of a saved set; a set without splits is divided at random."""
    check_split(split)
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            f"{root} was written by save_to_disk; to read it: pip install 'cvperf[hugging-face]'"
        ) from error
    loaded = datasets.load_from_disk(str(root))
    if not isinstance(loaded, datasets.DatasetDict):
        whole = _images(loaded, loaded, label, options)
        groups = whole.labels
        return select(whole, divide(groups, split, validation=validation, test=test, seed=seed))
    names = [name for name in FOLDERS[split] if name in loaded]
    if not names or "train" not in loaded:
        raise ArgumentError(f"{root} has no split {split!r}, or no 'train'; has {list(loaded)}")
    return _images(loaded[names[0]], loaded["train"], label, options)


def _images(rows: Any, train: Any, label: str, options: dict[str, Any]) -> SavedImages:
    import datasets

    pictures = [n for n, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    if not pictures or label not in rows.features:
        raise ArgumentError(
            f"the set needs a column of images and one named {label!r}; columns: "
            f"{dict(rows.features)}. Name the labels' column with label="
        )
    values, known = list(rows[label]), list(train[label])
    kind = kind_of(known)
    feature = rows.features[label]
    named = getattr(feature, "feature", feature)  # of a list, what it lists
    if isinstance(named, datasets.ClassLabel):
        classes = tuple(named.names)
        values = [_named(value, classes) for value in values]
    else:
        classes = class_names(known, kind)
    labels = encode(values, kind, classes, lambda row: f"row {row}")
    return SavedImages(rows, pictures[0], labels, classes, **options)


def _named(value: Any, classes: tuple[str, ...]) -> Any:
    return [classes[number] for number in value] if isinstance(value, list) else classes[value]
