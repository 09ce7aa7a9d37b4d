"""Tables of image paths and labels: a CSV file, and what other layouts read into the same form."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cvperf.data.samples import ImageSet
from cvperf.data.sets.base import ImageFiles, select
from cvperf.data.sets.labels import Kind, class_names, encode
from cvperf.data.sets.splits import FOLDERS, check_split, divide
from cvperf.errors import ArgumentError


@dataclass(frozen=True)
class Table:
    """Rows of a file, and the folder that their paths start from."""

    file: Path
    rows: Sequence[Mapping[str, Any]]
    lines: Sequence[int]
    """Where each row stands in the file, from 1."""
    images: Path

    def column(self, name: str) -> list[Any]:
        """Raises ArgumentError where there is none of this name."""
        for number, row in enumerate(self.rows):
            if row.get(name) is None:
                columns = ", ".join(str(column) for column in self.rows[0])
                raise ArgumentError(
                    f"{self.where(number)} has no column {name!r}; columns: {columns}. Name the "
                    "one that is meant with path=, label= or split_column="
                )
        return [row[name] for row in self.rows]

    def where(self, number: int) -> str:
        return f"{self.file}, line {self.lines[number]}"


def load(
    split: str,
    root: str | Path,
    *,
    images: str | Path | None = None,
    path: str = "path",
    label: str = "label",
    kind: Kind | None = None,
    separator: str | None = None,
    split_column: str = "split",
    validation: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    **options: Any,
) -> ImageSet:
    """A CSV file with a header and a row for each image.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``.
        root: the file, or a folder that has ``train.csv``, ``validation.csv`` (or ``val.csv``)
            and ``test.csv``. One file is split by its column ``split``, or at random without it.
        images: the folder that paths start from; by default that of the file.
        path: the column of paths.
        label: the column of labels.
        kind: ``"single"``, ``"multi"`` or ``"regression"``; by default "multi" if there is a
            separator, else "single".
        separator: between the classes of a row, such as ``" "`` or ``"|"``.
        split_column: the column that names each row's split.
        validation: the fraction for this split, where it is taken at random.
        test: as ``validation``.
        seed: of the random split.
        options: ``color`` and ``broken`` of :class:`~cvperf.data.sets.base.ImageFiles`.
    """
    check_split(split)
    root = Path(root).expanduser()
    kind = kind or ("multi" if separator else "single")
    if kind == "multi" and not separator:
        raise ArgumentError('kind "multi" needs the separator between the classes of a row')
    if root.is_dir():
        train, table = read_csv(_table_of(root, "train")), read_csv(_table_of(root, split))
    else:
        train = table = read_csv(root)
    if images is not None:
        table = replace(table, images=Path(images).expanduser())

    def labels(of: Table) -> list[Any]:
        return [separated(value, separator) for value in of.column(label)]

    classes = class_names(labels(train), kind)
    whole = image_files(table, path, labels(table), kind, classes, options)
    if root.is_dir():
        return whole
    if split_column in table.rows[0]:
        return select(whole, _named(table, split_column, split))
    assert whole.labels is not None
    return select(whole, divide(whole.labels, split, validation=validation, test=test, seed=seed))


def image_files(
    table: Table,
    path: str,
    labels: Sequence[Any],
    kind: Kind,
    classes: Sequence[str],
    options: dict[str, Any],
) -> ImageFiles:
    """The images of all rows of a table."""
    encoded = encode(labels, kind, classes, table.where)
    paths = [table.images / str(value) for value in table.column(path)]
    return ImageFiles(paths, encoded, classes, **options)


def separated(value: Any, separator: str | None) -> Any:
    """The classes of a field; the field itself where there is no separator."""
    if separator is None or not isinstance(value, str):
        return value
    return value.split(separator) if value else []


def read_csv(file: Path) -> Table:
    """A CSV file with a header; a row with more fields than that is an error."""
    if not file.is_file():
        raise ArgumentError(f"root must be a CSV file or a folder of them, got {file}")
    rows, numbers = [], []
    with file.open(newline="", encoding="utf-8-sig") as lines:  # Excel begins with a mark
        reader = csv.DictReader(lines)
        for row in reader:
            rows.append(row)
            numbers.append(reader.line_num)
            if None in row:
                raise ArgumentError(
                    f"{file}, line {reader.line_num} has more fields than the header; put fields "
                    "that have a comma in quotes"
                )
    if not rows:
        raise ArgumentError(f"{file} has no rows below its header")
    return Table(file, rows, numbers, file.parent)


def _table_of(root: Path, split: str) -> Path:
    candidates = [root / f"{name}.csv" for name in FOLDERS[split]]
    found = [path for path in candidates if path.is_file()]
    if not found:
        there = ", ".join(sorted(path.name for path in root.glob("*.csv"))) or "none"
        raise ArgumentError(
            f"{root} has no {' or '.join(path.name for path in candidates)}; CSV files there: "
            f"{there}. For one file with all rows, give the file as root"
        )
    return found[0]


def _named(table: Table, column: str, split: str) -> Tensor:
    """The rows whose split is this one."""
    named = [str(value).strip().lower() for value in table.column(column)]
    known = {name for names in FOLDERS.values() for name in names}
    for number, name in enumerate(named):
        if name not in known:
            raise ArgumentError(
                f"{table.where(number)}: {column} is {name!r}; expected one of "
                f"{', '.join(sorted(known))}"
            )
    chosen = [number for number, name in enumerate(named) if name in FOLDERS[split]]
    if not chosen:
        raise ArgumentError(f"{table.file} has no row of split {split!r}: {sorted(set(named))}")
    return torch.tensor(chosen)
