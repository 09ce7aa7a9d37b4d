"""Pictures with what a detector found in them, the worst first."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cvperf.data import Batch
from cvperf.eval import match
from cvperf.train.report.scenes import Kind, Mark, Scene

SURE = 0.5
"""The score from which a detection is shown."""


class Gallery:
    """Keeps images with many mistakes, and some as they come; for ``DetectionJudge(seen=...)``.

    Args:
        classes: their names.
        first: how many of the first images are kept.
        worst: how many of those with the most mistakes are.
    """

    def __init__(self, classes: Sequence[str], first: int = 8, worst: int = 16) -> None:
        self._classes, self._first, self._worst = tuple(classes), first, worst
        # (mistakes, minus its place, ...): of images with as many the first stays.
        self._heap: list[tuple[int, int, Scene]] = []
        self._start: list[tuple[int, int, Scene]] = []
        self._count = 0

    def __call__(self, found: Sequence[Mapping[str, Tensor]], batch: Batch) -> None:
        for image, target, answers in zip(batch.images, batch.targets, found, strict=True):
            self._count += 1
            made = scene(image, answers, self._classes, target)
            entry = (made.mistakes, -self._count, made)
            if self._count <= self._first:
                self._start.append(entry)
            elif len(self._heap) < self._worst:
                heapq.heappush(self._heap, entry)
            else:
                heapq.heappushpop(self._heap, entry)

    def scenes(self) -> list[Scene]:
        """Those with the most mistakes first."""
        ordered = sorted([*self._start, *self._heap], key=lambda one: one[:2], reverse=True)
        return [made for _, _, made in ordered]


def scene(
    image: Tensor,
    found: Mapping[str, Tensor],
    classes: Sequence[str],
    truth: Mapping[str, Tensor] | None = None,
    least: float = SURE,
) -> Scene:
    """A picture and the marks on it.

    Args:
        image: uint8 [C, H, W].
        found: ``boxes`` [n, 4], ``labels`` [n] from 0, ``scores`` [n], maybe ``masks``
            [n, 1, H, W].
        classes: names of the labels.
        truth: ``boxes`` and ``labels`` of what is there; None where that is not known.
        least: score of what is shown.
    """
    sure = found["scores"] >= least
    found = {name: value[sure].cpu() for name, value in found.items()}
    names = [classes[label] for label in found["labels"].tolist()]
    texts = [f"{n} {s:.2f}" for n, s in zip(names, found["scores"].tolist(), strict=True)]
    kinds: list[Kind] = ["found"] * len(names)
    marks: list[Mark] = []
    masks = [mask.reshape(mask.shape[-2:]) >= 0.5 for mask in found.get("masks", ())]
    if truth is not None:
        truth = {name: truth[name].as_subclass(Tensor).cpu() for name in ("boxes", "labels")}
        taken = match(found, truth)
        kinds = ["right" if number >= 0 else "false" for number in taken.tolist()]
        seen = torch.isin(torch.arange(len(truth["labels"])), taken)
        marks = [
            Mark("seen" if known else "missed", tuple(box), classes[label])
            for known, box, label in zip(
                seen.tolist(), truth["boxes"].tolist(), truth["labels"].tolist(), strict=True
            )
        ]
    answers = zip(kinds, found["boxes"].tolist(), texts, masks or [None] * len(names), strict=True)
    marks += [Mark(kind, tuple(box), text, mask) for kind, box, text, mask in answers]
    return Scene(image.cpu(), marks)
