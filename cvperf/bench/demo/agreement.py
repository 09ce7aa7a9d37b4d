"""Did two runs give the same answer? One judge for each kind of answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SAME_BOX_PX = 0.5
SAME_VALUE = 1e-4
SAME_HALF = 2e-2  # bfloat16 keeps 8 bits, and each of the two rounds once


@dataclass(frozen=True)
class Agreement:
    """How far two answers are apart."""

    same: bool
    error: float
    """Largest difference divided by the largest value; NaN when nothing could be compared."""
    about: str
    """What was compared, and how strictly."""
    detail: str = ""
    """What differs, when something does."""


@dataclass(frozen=True)
class Detections:
    """Boxes found in one image: boxes [K, 4] xyxy in pixels, scores [K], labels [K], all on CPU."""

    boxes: Tensor
    scores: Tensor
    labels: tuple[str, ...]


def largest_error(before: Tensor, after: Tensor) -> float:
    """Largest absolute difference over the largest absolute value of ``before``."""
    if before.shape != after.shape:
        return float("nan")
    if before.numel() == 0:
        return 0.0
    difference = (before.double() - after.double()).abs().max().item()
    # A zero answer has no scale of its own: the difference then stands as it is.
    return difference / (before.double().abs().max().item() or 1.0)


def same_values(before: Tensor, after: Tensor) -> Agreement:
    """Floating-point results: within SAME_VALUE of the largest value, or SAME_HALF in 16 bits."""
    tolerance = SAME_VALUE if before.dtype.itemsize > 2 else SAME_HALF
    error = largest_error(before, after)
    detail = "" if before.shape == after.shape else f"{[*before.shape]} became {[*after.shape]}"
    return Agreement(error <= tolerance, error, f"values within {tolerance:g}", detail)


def same_integers(before: Tensor, after: Tensor) -> Agreement:
    """Indices and integer sums: equal, one for one."""
    same = torch.equal(before, after)
    detail = "" if same else f"{[*before.shape]} and {[*after.shape]} differ"
    return Agreement(same, largest_error(before, after), "integers, exactly equal", detail)


def same_classes(before: Tensor, after: Tensor) -> Agreement:
    """Class scores [N, classes]: the same winner in every row."""
    changed = int((before.argmax(1) != after.argmax(1)).sum())
    detail = f"{changed} of {len(before)} labels changed" if changed else ""
    return Agreement(not changed, largest_error(before, after), "top label of each photo", detail)


def same_detections(before: Sequence[Detections], after: Sequence[Detections]) -> Agreement:
    """Every box has one partner with its label, no corner further off than SAME_BOX_PX.

    Order is left out on purpose: two boxes with all but equal scores may swap places.
    """
    total = sum(len(found.boxes) for found in before)
    extra = sum(len(found.boxes) for found in after) - total
    errors = [0.0]
    lost = 0
    for old, new in zip(before, after, strict=True):
        pairs = partners(old, new)
        lost += len(old.boxes) - len(pairs)
        if pairs:
            left, right = (torch.tensor(side) for side in zip(*pairs, strict=True))
            errors.append(largest_error(old.boxes[left], new.boxes[right]))
            errors.append(largest_error(old.scores[left], new.scores[right]))
    same = lost == 0 and extra == 0
    detail = "" if same else f"{lost} of {total} boxes have no partner, {extra:+d} boxes in all"
    return Agreement(same, max(errors), f"boxes within {SAME_BOX_PX} px, and labels", detail)


def partners(old: Detections, new: Detections) -> list[tuple[int, int]]:
    """Index pairs of boxes that are the same; no box is used twice."""
    free = set(range(len(new.boxes)))
    pairs = []
    for index, (box, label) in enumerate(zip(old.boxes, old.labels, strict=True)):
        distance = {
            other: (new.boxes[other] - box).abs().max().item()
            for other in free
            if new.labels[other] == label
        }
        nearest = min(distance, key=distance.__getitem__, default=None)
        if nearest is not None and distance[nearest] <= SAME_BOX_PX:
            free.remove(nearest)
            pairs.append((index, nearest))
    return pairs
