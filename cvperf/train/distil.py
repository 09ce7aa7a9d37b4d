"""Distillation: a small model learns from the answers of a large one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvperf.errors import ArgumentError
from cvperf.train.recipe import Distil


@dataclass(frozen=True)
class Teacher:
    """A trained model, and how its answers count.

    Attributes:
        model: in evaluation mode, for the same normalised images as the student.
        config: the recipe's section.
    """

    model: nn.Module
    config: Distil

    def taught(self, loss: Tensor, logits: Tensor, images: Tensor) -> Tensor:
        """``loss`` mixed with the distance of the student's logits from the teacher's.

        Args:
            loss: the student's own, float [].
            logits: the student's, float [N, classes].
            images: what it saw.

        Raises:
            ArgumentError: the distance is unknown.
        """
        if self.config.distance not in _DISTANCES:
            known = ", ".join(_DISTANCES)
            raise ArgumentError(f"unknown distil.distance {self.config.distance!r}; known: {known}")
        with torch.no_grad():
            answers = self.model(images)
        distance = _DISTANCES[self.config.distance](logits, answers, self.config.temperature)
        weight = self.config.weight
        return (1 - weight) * loss + weight * distance


def _kl(logits: Tensor, answers: Tensor, temperature: float) -> Tensor:
    """Its gradient shrinks by the square of the temperature, which is undone."""
    student = F.log_softmax(logits / temperature, 1)
    teacher = F.log_softmax(answers / temperature, 1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def _euclidean(logits: Tensor, answers: Tensor, temperature: float) -> Tensor:
    return F.mse_loss(logits / temperature, answers / temperature)


def _hard(logits: Tensor, answers: Tensor, temperature: float) -> Tensor:
    return F.cross_entropy(logits, answers.argmax(1))


_DISTANCES: Mapping[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "kl": _kl,
    "euclidean": _euclidean,
    "hard": _hard,
}
