"""Labels as they stand in tables, made into tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from cvperf.errors import ArgumentError, describe

Kind = Literal["single", "multi", "regression"]
"""One class a picture, any number of classes, or a number."""


def class_names(labels: Iterable[Any], kind: Kind) -> tuple[str, ...]:
    """The classes that occur, sorted: numbers as numbers, before words."""
    if kind == "regression":
        return ()
    names = {name for label in labels for name in _names(label, kind)}
    return tuple(
        sorted(names, key=lambda name: (0, int(name), "") if name.isdecimal() else (1, 0, name))
    )


def kind_of(labels: Sequence[Any]) -> Kind:
    """What labels are, read off the first."""
    first = labels[0]
    if isinstance(first, list):
        return "multi"
    return "regression" if isinstance(first, float) else "single"


def encode(
    labels: Sequence[Any], kind: Kind, classes: Sequence[str], where: Callable[[int], str]
) -> Tensor:
    """int64 [N] (single), float32 [N, classes] of 0 and 1 (multi) or float32 [N] (regression).

    Args:
        labels: words or integers; for "multi" lists of them; for "regression" numbers.
        kind: what they are.
        classes: names, in the order of their numbers.
        where: says in an error where label i stands.

    Raises:
        ArgumentError: a label is missing, of no known class or no number.
    """
    if kind not in ("single", "multi", "regression"):
        raise ArgumentError(f'kind must be "single", "multi" or "regression", got {describe(kind)}')
    if kind == "regression":
        numbers = [_number(label, where, i) for i, label in enumerate(labels)]
        return torch.tensor(numbers, dtype=torch.float32)
    index = {name: number for number, name in enumerate(classes)}
    encoded = []
    for i, label in enumerate(labels):
        names = _names(label, kind)
        if unknown := [name for name in names if name not in index]:
            raise ArgumentError(
                f"{where(i)}: class {unknown[0]!r} is not one of those of the training set: "
                f"{', '.join(classes)}"
            )
        if kind == "single" and names == [""]:
            raise ArgumentError(f"{where(i)}: the label is empty; expected the name of a class")
        encoded.append([index[name] for name in names])
    if kind == "single":
        return torch.tensor(encoded, dtype=torch.int64).view(-1)
    hot = torch.zeros(len(encoded), len(classes))
    for row, numbers_of_row in zip(hot, encoded, strict=True):
        row[numbers_of_row] = 1
    return hot


def _names(label: Any, kind: Kind) -> list[str]:
    return [str(name) for name in label] if kind == "multi" else [str(label)]


def _number(label: Any, where: Callable[[int], str], i: int) -> float:
    try:
        number = float(label)
    except (TypeError, ValueError):
        number = float("nan")
    if number != number or number in (float("inf"), float("-inf")):
        raise ArgumentError(f"{where(i)}: {label!r} is no finite number, as regression needs one")
    return number
