"""Metrics of classification, one label a sample or several, summed over processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassConfusionMatrix,
    MultilabelAUROC,
    MultilabelAveragePrecision,
    MultilabelStatScores,
)

from cvperf.errors import ArgumentError, describe
from cvperf.eval.calibration import Calibration, Reliability, expected_error, reliability
from cvperf.eval.quiet import quiet

Kind = Literal["single", "multi"]
_CURVES = {"auc", "ap"}


class Classification:
    """Accuracy, precision, recall, F1, areas under curves, calibration and confusion.

    Built on torchmetrics: where torch.distributed runs, ``compute``, ``confusion`` and
    ``reliability`` sum over its processes, and every process must call them.

    Args:
        classes: their names.
        kind: "single" for one label a sample (softmax), "multi" for any number (sigmoid).
        thresholds: from which probability a class counts as present. For "multi" one number, or
            float [classes] as ``tune_thresholds`` gives; default 0.5. For "single" only with two
            classes: that of the second; without one the class with the highest logit is the answer.
        curve_points: None for exact areas, which keep every probability (4 bytes x N x classes) and
            sort them; a number for areas from so many thresholds, whose memory does not grow but
            whose updates take longer; 0 for none.
        calibration_bins: of the calibration error.
        device: where the logits will be. Under NCCL it must be a GPU.

    Raises:
        ArgumentError: two classes have one name, there is none, or ``thresholds`` do not fit.
    """

    def __init__(
        self,
        classes: Sequence[str],
        kind: Kind = "single",
        *,
        thresholds: Tensor | float | None = None,
        curve_points: int | None = None,
        calibration_bins: int = 15,
        device: torch.device | str = "cpu",
    ) -> None:
        if kind not in ("single", "multi"):
            raise ArgumentError(f'kind must be "single" or "multi", got {kind!r}')
        least = 2 if kind == "single" else 1
        if len(classes) < least or len(set(classes)) < len(classes):
            raise ArgumentError(
                f"classes must be {least} or more names that differ, got {list(classes)}"
            )
        self.classes = tuple(classes)
        self.kind = kind
        self._device = torch.device(device)
        self._thresholds = _thresholds(thresholds, kind, len(classes))
        self._metrics = _metrics(kind, len(classes), curve_points, calibration_bins)
        self.to(device)
        self.reset()

    def to(self, device: torch.device | str) -> Classification:
        """Move what was counted so far; returns itself."""
        self._device = torch.device(device)
        self._metrics = {name: metric.to(device) for name, metric in self._metrics.items()}
        if self._thresholds is not None:
            self._thresholds = self._thresholds.to(device)
        return self

    def reset(self) -> None:
        """Forget every sample."""
        for metric in self._metrics.values():
            metric.reset()
        # An empty batch: processes exchange the probabilities they keep, and torchmetrics has one
        # that kept none send another shape than the rest expect.
        nothing = torch.zeros(0, len(self.classes), device=self._device)
        for name in _CURVES & set(self._metrics):
            targets = nothing if self.kind == "multi" else nothing[:, 0]
            self._metrics[name].update(nothing, targets.long())

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            logits: float [n, classes], before softmax or sigmoid; n may be 0.
            targets: int64 [n] for "single", 0 and 1 in [n, classes] for "multi".

        Raises:
            ArgumentError: shapes, dtypes or devices do not fit, logits have NaN, or a target is no
                class.
        """
        self._check(logits, targets)
        if not len(logits):
            return
        update = self._update_single if self.kind == "single" else self._update_multi
        update(logits.detach().float(), targets.long())

    def _update_single(self, logits: Tensor, targets: Tensor) -> None:
        probabilities = logits.softmax(1)
        answers = logits.argmax(1)
        if self._thresholds is not None:
            answers = (probabilities[:, 1].double() >= self._thresholds).long()
        self._metrics["counts"].update(answers, targets)
        for name in {"auc", "top5"} & set(self._metrics):
            self._metrics[name].update(probabilities, targets)
        confidence = probabilities.gather(1, answers[:, None])[:, 0]
        self._metrics["calibration"].update(confidence, answers == targets)

    def _update_multi(self, logits: Tensor, targets: Tensor) -> None:
        assert self._thresholds is not None
        probabilities = logits.sigmoid()
        answers = (probabilities.double() >= self._thresholds).long()
        self._metrics["counts"].update(answers, targets)
        for name in _CURVES & set(self._metrics):
            self._metrics[name].update(probabilities, targets)
        self._metrics["calibration"].update(probabilities.flatten(), targets.flatten())

    def compute(self) -> dict[str, float]:
        """Every figure so far.

        ``accuracy``, ``top5`` (with more than five classes), ``precision``, ``recall``, ``f1``,
        ``auc`` (one class against the rest), ``ece`` (expected calibration error); for "multi" also
        ``map`` (mean average precision), and ``accuracy`` is the share of right yes-or-no answers.
        Each but accuracy, top5 and ece is the mean over classes; ``recall/cat`` and so on are those
        of class "cat" (average precision: ``ap/cat``).

        A class without a sample has no figures and is in no mean; neither has one that every sample
        belongs to an area. A class that is never answered has precision 0.

        Raises:
            ArgumentError: there was no sample.
        """
        with quiet():
            counts = self._metrics["counts"].compute().cpu()
            tp, answered, true, total = _counts(counts, self.kind)
            if not total:  # the same on every process
                raise ArgumentError("there is no sample to compute metrics of: update() saw none")
            found = {name: metric.compute().cpu() for name, metric in self._metrics.items()}
        occurs, part = true > 0, (true > 0) & (true < total)
        figures = {"accuracy": _accuracy(counts, self.kind)}
        if "top5" in found:
            figures["top5"] = float(found["top5"])
        per_class = {
            "precision": (tp / answered.clamp(min=1), occurs),
            "recall": (tp / true.clamp(min=1), occurs),
            "f1": (2 * tp / (answered + true).clamp(min=1), occurs),
        }
        if "auc" in found:
            per_class["auc"] = (found["auc"], part)
        if "ap" in found:
            per_class["ap"] = (found["ap"], occurs)
        for name, (values, defined) in per_class.items():
            if defined.any():
                figures["map" if name == "ap" else name] = float(values[defined].double().mean())
        figures["ece"] = expected_error(found["calibration"])
        for name, (values, defined) in per_class.items():
            for number in defined.nonzero().flatten().tolist():
                figures[f"{name}/{self.classes[number]}"] = float(values[number])
        return figures

    @property
    def confusion(self) -> Tensor:
        """Samples of each class (row) by the class answered (column): int64 [classes, classes].

        Raises:
            ArgumentError: kind is "multi", where classes do not exclude each other.
        """
        if self.kind == "multi":
            raise ArgumentError('a confusion matrix needs kind="single"; this one is "multi"')
        with quiet():
            return self._metrics["counts"].compute().long().cpu()

    @property
    def reliability(self) -> Reliability:
        """The bars of the reliability diagram.

        For "single" the probability of the class answered, against how often it is right; for
        "multi" that of every class, against how often it is there.
        """
        with quiet():
            return reliability(self._metrics["calibration"].compute())

    def _check(self, logits: Tensor, targets: Tensor) -> None:
        classes = len(self.classes)
        if logits.dim() != 2 or logits.shape[1] != classes or not logits.is_floating_point():
            raise ArgumentError(f"logits must be float [n, {classes}], got {describe(logits)}")
        shape = logits.shape[:1] if self.kind == "single" else logits.shape
        if targets.shape != shape:
            raise ArgumentError(
                f"targets must be {list(shape)} for kind {self.kind!r}, got {describe(targets)}"
            )
        if logits.device != self._device or targets.device != self._device:
            raise ArgumentError(
                f"logits and targets must be on {self._device}, got {describe(logits)} and "
                f"{describe(targets)}. Move the metrics with .to(), or the tensors"
            )
        bad = ~(logits.isfinite().all(1))
        if bad.any():
            raise ArgumentError(
                f"logits {describe(logits)} has NaN or infinity in {int(bad.sum())} of {len(bad)} "
                "rows: the model diverged, or its input is broken"
            )
        known = (targets >= 0) & (targets < classes)
        if self.kind == "single" and (targets.is_floating_point() or not known.all()):
            raise ArgumentError(
                f"targets must be integers from 0 to {classes - 1}, got {describe(targets)} with "
                f"{targets.unique().tolist()}"
            )
        if self.kind == "multi" and not ((targets == 0) | (targets == 1)).all():
            raise ArgumentError(f"targets must be 0 or 1, got {targets.unique().tolist()}")


def _thresholds(given: Tensor | float | None, kind: Kind, classes: int) -> Tensor | None:
    if given is None and kind == "single":
        return None
    thresholds = torch.as_tensor(0.5 if given is None else given, dtype=torch.float64)
    if kind == "single" and (classes != 2 or thresholds.dim()):
        raise ArgumentError(
            'thresholds for kind "single" must be one number, with two classes; '
            f"got {describe(given)} with {classes} classes"
        )
    if kind == "multi" and thresholds.shape not in ((), (classes,)):
        raise ArgumentError(f"thresholds must be a number or [{classes}], got {describe(given)}")
    return thresholds


def _metrics(kind: Kind, classes: int, points: int | None, bins: int) -> dict[str, Metric]:
    # Everything is checked before it reaches them.
    curve: Any = {"average": "none", "thresholds": points, "validate_args": False}
    metrics: dict[str, Metric] = {"calibration": Calibration(bins)}
    if kind == "multi":
        metrics["counts"] = MultilabelStatScores(classes, average="none", validate_args=False)
        if points != 0:
            metrics["auc"] = MultilabelAUROC(classes, **curve)
            metrics["ap"] = MultilabelAveragePrecision(classes, **curve)
        return metrics
    metrics["counts"] = MulticlassConfusionMatrix(classes, validate_args=False)
    if points != 0:
        metrics["auc"] = MulticlassAUROC(classes, **curve)
    if classes > 5:
        top5 = MulticlassAccuracy(classes, top_k=5, average="micro", validate_args=False)
        metrics["top5"] = top5
    return metrics


def _counts(counts: Tensor, kind: Kind) -> tuple[Tensor, Tensor, Tensor, int]:
    """Of each class: right, answered, true; and samples in all."""
    if kind == "single":
        counts = counts.double()
        return counts.diagonal(), counts.sum(0), counts.sum(1), int(counts.sum())
    tp, fp, tn, fn, true = counts.double().unbind(1)
    return tp, tp + fp, true, int((tp + fp + tn + fn)[0])


def _accuracy(counts: Tensor, kind: Kind) -> float:
    counts = counts.double()
    if kind == "single":
        return float(counts.trace() / counts.sum())
    tp, fp, tn, fn, _ = counts.unbind(1)
    return float((tp + tn).sum() / (tp + fp + tn + fn).sum())
