"""The confusion matrix as a picture of rectangles, readable for 2 to 100 classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_WIDTH = 640  # what the cells share, within the limits below
_CELL = (11.0, 56.0)
_GLYPH = 0.6  # width of a character over its height
_LONGEST = 22  # characters of a label
_PAIRS = 12


@dataclass(frozen=True)
class Cell:
    """A number of samples that is not 0."""

    row: int
    column: int
    count: int
    share: float
    """Of the samples of its row's class."""


@dataclass(frozen=True)
class Matrix:
    """What the template draws; lengths in pixels."""

    classes: tuple[str, ...]
    totals: tuple[int, ...]
    """Samples of each class."""
    cells: tuple[Cell, ...]
    cell: float
    left: float
    top: float
    """Room for the names."""
    upright: bool
    """Whether the names above the cells fit as they are; others are turned."""
    font: float
    digits: float
    """Height of the counts; 0 where they do not fit."""

    @property
    def side(self) -> float:
        """Of all cells."""
        return self.cell * len(self.classes)

    @property
    def confused(self) -> list[Cell]:
        """The most frequent errors, most frequent first."""
        wrong = [cell for cell in self.cells if cell.row != cell.column]
        return sorted(wrong, key=lambda cell: (-cell.count, cell.row, cell.column))[:_PAIRS]

    def taken_for(self, number: int) -> Cell | None:
        """The most frequent wrong answer to a class."""
        wrong = [c for c in self.cells if c.row == number and c.column != number]
        return max(wrong, key=lambda cell: cell.count, default=None)

    def label(self, number: int) -> str:
        """A class's name; of one too long to stand beside the cells its start and its end."""
        name, half = self.classes[number], _LONGEST // 2
        return name if len(name) <= _LONGEST else f"{name[:half]}…{name[1 - half :]}"


def draw(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Matrix:
    """The picture of ``counts[truth][answer]``."""
    totals = tuple(sum(row) for row in counts)
    cells = tuple(
        Cell(i, j, count, count / totals[i])
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        if count
    )
    cell = min(max(_WIDTH / max(len(classes), 1), _CELL[0]), _CELL[1])
    font = min(13.0, 0.85 * cell)
    label = font * _GLYPH * min(max(map(len, classes), default=0), _LONGEST)
    upright = label < cell - 4
    most = len(str(max((one.count for one in cells), default=0)))
    digits = min(13.0, (cell - 2) / (_GLYPH * most))
    return Matrix(
        tuple(classes),
        totals,
        cells,
        round(cell, 1),
        round(label + 30),
        round(font if upright else label) + 30,
        upright,
        round(font, 1),
        round(digits, 1) if digits >= 7 else 0,
    )
