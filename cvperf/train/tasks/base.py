"""What every task has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from lightning_fabric import Fabric
from torch import nn

from cvperf.data import ImageSet
from cvperf.train.distil import Teacher
from cvperf.train.loop import Objective
from cvperf.train.recipe import Recipe
from cvperf.train.sets import Sets


@dataclass(frozen=True)
class Verdict:
    """A run's answer.

    Attributes:
        figures: on the test images, or on those for validation without any.
        shown: what the report has besides: arguments of ``report.write``.
    """

    figures: dict[str, float]
    shown: Mapping[str, Any]


class Judge(Protocol):
    """Judges models alike."""

    def __call__(self, model: nn.Module, images: ImageSet) -> dict[str, float]:
        """Figures of a model in evaluation mode, over the images of all processes."""

    def last(self, model: nn.Module, images: Sets) -> Verdict:
        """The verdict on a run's best model, in evaluation mode."""


class Task(Protocol):
    """A module of this package."""

    def check(self, recipe: Recipe) -> None:
        """Raises ArgumentError where a section asks for what the task has not."""

    def network(self, recipe: Recipe, images: Sets) -> nn.Module:
        """With random weights, for the classes and channels of the images, on the CPU."""

    def objective(self, recipe: Recipe, images: Sets, teacher: Teacher | None) -> Objective:
        """What a step makes smaller."""

    def judge(self, fabric: Fabric, recipe: Recipe, images: Sets) -> Judge:
        """Raises ArgumentError where loss or thresholds do not fit the images."""
