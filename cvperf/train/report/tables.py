"""The page's numbers: its headline, the final figures, and those of each class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cvperf.train.report.confusion import Cell, Matrix

_MAIN = ("accuracy", "map", "ap", "mae", "mse", "loss")
"""The first of these that was measured is the headline's, if what the run watched was not."""
_LESS_IS_BETTER = ("mae", "mse", "loss")


@dataclass(frozen=True)
class ClassTable:
    """A line for each class."""

    names: list[str]
    """Of the figures."""
    lines: list[ClassLine]


@dataclass(frozen=True)
class ClassLine:
    name: str
    samples: int | None
    figures: list[float | None]
    taken_for: Cell | None


def figure(value: float | None) -> str:
    """Four digits: 0.9722, 0.001234, 12.35, 1,234; empty for None."""
    if value is None:
        return ""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    if abs(value) < 0.01:
        return f"{value:.4g}"
    places = 4 if abs(value) <= 1 else max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def headline(
    history: Sequence[Mapping[str, Any]],
    final: Mapping[str, float],
    watched: str = "",
    highest: bool = True,
) -> str:
    """The one line to read: how long, how good, and when it was best.

    Args:
        history: as :func:`~cvperf.train.report.write` takes it.
        final: likewise.
        watched: the figure that told the best epoch.
        highest: whether more of that is better.
    """
    names = (watched, *_MAIN)
    if not history:
        parts = ["No epoch was trained"]
    else:
        parts = [f"{len(history)} epoch{'s' if len(history) > 1 else ''}"]
    part = "validation" if any(line.get("validation") for line in history) else "train"
    known = [(line["epoch"], line.get(part, {})) for line in history]
    name = next((name for name in names if any(name in values for _, values in known)), None)
    if name is not None:
        curve = [(epoch, values[name]) for epoch, values in known if name in values]
        more = highest if name == watched else name not in _LESS_IS_BETTER
        sign = 1 if more else -1
        finite = [(sign * value, -epoch) for epoch, value in curve if math.isfinite(value)]
        if finite:
            best, epoch = max(finite)  # the first of equals
            parts.append(f"best {part} {name} {figure(sign * best)} in epoch {-epoch}")
        else:
            parts.append(f"the {part} {name} was never a finite number")
    main = next((name for name in names if name in final), None)
    if main is not None:
        parts.append(f"final {main} {figure(final[main])}")
    return "; ".join(parts) + "."


def overall(final: Mapping[str, float], classes: Sequence[str]) -> dict[str, float]:
    """The figures that are not of one class."""
    return {name: value for name, value in final.items() if _class_of(name, classes) is None}


def per_class(
    final: Mapping[str, float], classes: Sequence[str], matrix: Matrix | None
) -> ClassTable | None:
    """Figures, samples and the most frequent wrong answer of each class; None without any."""
    found: dict[str, dict[str, float]] = {}
    for name, value in final.items():
        if (of := _class_of(name, classes)) is not None:
            found.setdefault(name.removesuffix(f"/{of}"), {})[of] = value
    if not found and matrix is None:
        return None
    lines = [
        ClassLine(
            name,
            matrix.totals[number] if matrix else None,
            [values.get(name) for values in found.values()],
            matrix.taken_for(number) if matrix else None,
        )
        for number, name in enumerate(classes)
    ]
    return ClassTable(list(found), lines)


def _class_of(name: str, classes: Sequence[str]) -> str | None:
    of = name.partition("/")[2]
    return of if of in classes else None
