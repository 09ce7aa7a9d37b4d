"""Losses by name: of logits and targets, the mean over the images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from cvperf.data import class_weights, presence_weights
from cvperf.errors import ArgumentError, describe
from cvperf.train.recipe import Loss

Criterion = Callable[[Tensor, Tensor], Tensor]
"""(logits [N, classes] or predictions [N], targets) -> float []."""


def build(config: Loss, labels: Tensor, classes: int) -> Criterion:
    """The loss of a recipe.

    Args:
        config: its section.
        labels: of the training images; for weights by frequency int64 [N], or float [N, classes]
            of 0 and 1 with ``bce``.
        classes: how many there are.

    Raises:
        ArgumentError: the name is unknown, the weights are not one a class, or the labels have no
            frequency.
    """
    if config.name not in _LOSSES:
        raise ArgumentError(f"unknown loss {config.name!r}; known: {', '.join(_LOSSES)}")
    weights = _class_weights(config, labels, classes)
    loss = _LOSSES[config.name]
    return lambda answers, targets: loss(config, weights, answers, targets)


def adjustment(config: Loss, labels: Tensor, classes: int) -> Tensor | None:
    """What ``loss.adjust`` adds to the logits while training, float32 [classes]; None for nothing.

    Raises:
        ArgumentError: the labels are not one class an image, or a class has no image.
    """
    if not config.adjust:
        return None
    return config.adjust * _frequencies(labels, classes).log()


def _class_weights(config: Loss, labels: Tensor, classes: int) -> Tensor | None:
    given = config.class_weights
    if given == "" or given == []:
        return None
    if isinstance(given, str):
        if given not in ("inverse", "effective"):
            raise ArgumentError(
                f"loss.class_weights is {given!r}; expected inverse, effective, or numbers"
            )
        if config.name == "bce" and given == "inverse":
            return presence_weights(labels)
        return class_weights(labels, classes, cast(Literal["inverse", "effective"], given))
    weights = torch.tensor([float(number) for number in given])
    if len(weights) != classes:
        raise ArgumentError(
            f"loss.class_weights has {len(weights)} numbers, expected one for each of {classes} "
            "classes"
        )
    return weights


def _frequencies(labels: Tensor, classes: int) -> Tensor:
    if labels.dtype != torch.int64 or labels.dim() != 1:
        raise ArgumentError(f"loss.adjust needs one class an image, got labels {describe(labels)}")
    counts = torch.bincount(labels, minlength=classes).float()
    if not counts.all():
        raise ArgumentError(f"loss.adjust: class {int(counts.argmin())} has no training image")
    return counts / counts.sum()


def focal(logits: Tensor, targets: Tensor, gamma: float, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy in which an image that is right already counts little.

    Args:
        logits: float [N, classes].
        targets: int64 [N], or float [N, classes] of probabilities.
        gamma: power of the probability that is missing; 0 is cross-entropy.
        weights: float [classes].

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, with softmax in place
    of a sigmoid a class.
    """
    logs = F.log_softmax(logits, 1)
    if targets.dim() == 1:
        targets = F.one_hot(targets, logits.shape[1]).to(logits.dtype)
    terms = -targets * (1 - logs.exp()) ** gamma * logs
    if weights is None:
        return terms.sum(1).mean()
    weights = weights.to(logits)
    return (terms * weights).sum() / (targets * weights).sum()  # as torch's cross-entropy


def _cross_entropy(config: Loss, weights: Tensor | None, logits: Tensor, targets: Tensor) -> Tensor:
    on_device = None if weights is None else weights.to(logits)
    return F.cross_entropy(logits, targets, on_device, label_smoothing=config.label_smoothing)


def _focal(config: Loss, weights: Tensor | None, logits: Tensor, targets: Tensor) -> Tensor:
    return focal(logits, targets, config.gamma, weights)


def _bce(config: Loss, weights: Tensor | None, logits: Tensor, targets: Tensor) -> Tensor:
    if targets.shape != logits.shape:
        raise ArgumentError(
            f"loss bce needs targets of 0 and 1 for each class, got {describe(targets)} for logits "
            f"{describe(logits)}; of one class an image, take cross_entropy"
        )
    on_device = None if weights is None else weights.to(logits)
    eps = config.label_smoothing
    smoothed = targets.to(logits) * (1 - eps) + eps / 2
    return F.binary_cross_entropy_with_logits(logits, smoothed, pos_weight=on_device)


def _regression(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def mean(config: Loss, weights: Tensor | None, answers: Tensor, targets: Tensor) -> Tensor:
        options = {"delta": config.delta} if loss is F.huber_loss else {}
        return loss(answers.reshape(targets.shape), targets.to(answers), **options)

    return mean


_LOSSES: Mapping[str, Callable[[Loss, Tensor | None, Tensor, Tensor], Tensor]] = {
    "cross_entropy": _cross_entropy,
    "focal": _focal,
    "bce": _bce,
    "mse": _regression(F.mse_loss),
    "mae": _regression(F.l1_loss),
    "huber": _regression(F.huber_loss),
}
