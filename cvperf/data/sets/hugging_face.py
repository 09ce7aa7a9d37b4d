"""Local folders of Hugging Face's ``datasets``: ``imagefolder`` and ``save_to_disk``. No hub."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cvperf.data.samples import ImageSet
from cvperf.data.sets import folder, saved
from cvperf.data.sets.base import select
from cvperf.data.sets.detection import Annotated, DetectionFiles, from_xywh
from cvperf.data.sets.labels import Kind, class_names, encode, kind_of
from cvperf.data.sets.splits import divide, split_folder
from cvperf.data.sets.table import Table, image_files, read_csv, separated
from cvperf.errors import ArgumentError


def load(
    split: str,
    root: str | Path,
    *,
    label: str = "label",
    kind: Kind | None = None,
    separator: str | None = None,
    validation: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    **options: Any,
) -> ImageSet:
    """A folder as ``imagefolder`` reads it, or as ``save_to_disk`` wrote it.

    ``imagefolder``: ``root/train/metadata.csv`` or ``metadata.jsonl`` with a column ``file_name``
    (or the same in ``root`` itself, split at random); without metadata, a folder for each class.
    A column ``objects`` with ``bbox`` (left, top, width, height) and ``categories`` makes it a
    detection set. ``save_to_disk`` needs the package ``datasets``.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``.
        root: the folder.
        label: the column of labels.
        kind: ``"single"``, ``"multi"`` or ``"regression"``; by default read off the labels: lists
            are "multi", numbers with a point "regression", all else "single".
        separator: between the classes of a row of metadata.csv.
        validation: the fraction for this split, where it is taken at random.
        test: as ``validation``.
        seed: of the random split.
        options: ``color`` and ``broken`` of :class:`~cvperf.data.sets.base.ImageFiles`.
    """
    root = folder.existing(root)
    fractions: dict[str, Any] = {"validation": validation, "test": test, "seed": seed}
    if (root / "dataset_dict.json").is_file() or (root / "dataset_info.json").is_file():
        return saved.load(split, root, label=label, **fractions, **options)
    chosen = split_folder(root, split)
    table = _metadata(chosen or root)
    if table is None:
        return folder.load(split, root, **fractions, **options)
    train = table if chosen is None else _metadata(split_folder(root, "train") or root)
    if train is None:
        raise ArgumentError(f"{chosen} has metadata, but the folder of split 'train' has none")
    whole: ImageSet
    if "objects" in table.rows[0]:
        whole = _detection(table, train, options)
    else:
        labels, names = ([separated(v, separator) for v in t.column(label)] for t in (table, train))
        kind = kind or kind_of(names)
        whole = image_files(table, "file_name", labels, kind, class_names(names, kind), options)
    if chosen is not None:
        return whole
    groups = whole.labels if whole.labels is not None else torch.zeros(len(whole))
    return select(whole, divide(groups, split, **fractions))


def _metadata(root: Path) -> Table | None:
    if (root / "metadata.csv").is_file():
        return read_csv(root / "metadata.csv")
    file = root / "metadata.jsonl"
    if not file.is_file():
        return None
    rows = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), 1):
        try:
            if line.strip():
                rows[number] = json.loads(line)
        except json.JSONDecodeError as error:
            raise ArgumentError(f"{file}, line {number} is no JSON, or cut: {error}") from error
    if not rows:
        raise ArgumentError(f"{file} is empty")
    return Table(file, list(rows.values()), list(rows), root)


def _detection(table: Table, train: Table, options: dict[str, Any]) -> DetectionFiles:
    def categories(of: Table) -> list[list[Any]]:
        return [_categories(objects, of.where(i)) for i, objects in enumerate(of.column("objects"))]

    classes = class_names(categories(train), "multi")
    known = []
    for number, names in enumerate(categories(table)):
        row = table.rows[number]
        labels = encode(names, "single", classes, partial(_at, table.where(number)))
        boxes = from_xywh(row["objects"]["bbox"])
        if len(boxes) != len(labels):
            raise ArgumentError(f"{table.where(number)}: {len(boxes)} boxes, {len(labels)} labels")
        known.append(Annotated(table.images / row["file_name"], boxes, labels))
    return DetectionFiles(known, classes, **options)


def _at(where: str, _: int) -> str:
    """Where each of a row's labels stands: in the row."""
    return where


def _categories(objects: Any, where: str) -> list[Any]:
    for name in ("categories", "category"):
        if isinstance(objects, dict) and "bbox" in objects and name in objects:
            return list(objects[name])
    raise ArgumentError(
        f'{where}: objects must have "bbox" and "categories", lists of one length; got {objects!r}'
    )
