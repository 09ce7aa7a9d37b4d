"""Metrics of regression, summed over processes."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric

from cvperf.errors import ArgumentError, describe
from cvperf.eval.quiet import quiet


class Regression:
    """Mean absolute (``mae``), squared (``mse``) and Huber error (``huber``).

    Built on torchmetrics: where torch.distributed runs, ``compute`` sums over its processes, and
    every process must call it.

    Args:
        huber: from this error on, Huber's loss grows linearly; None leaves the figure out.
        device: where the predictions will be. Under NCCL it must be a GPU.
    """

    def __init__(self, huber: float | None = None, *, device: torch.device | str = "cpu") -> None:
        if huber is not None and not huber > 0:
            raise ArgumentError(f"huber must be above 0, got {huber!r}")
        self._errors: dict[str, Any] = {"mae": F.l1_loss, "mse": F.mse_loss}
        if huber is not None:
            self._errors["huber"] = partial(F.huber_loss, delta=huber)
        self._means = {name: MeanMetric().set_dtype(torch.float64) for name in self._errors}
        self.to(device)

    def to(self, device: torch.device | str) -> Regression:
        """Move what was counted so far; returns itself."""
        self._means = {name: mean.to(device) for name, mean in self._means.items()}
        return self

    def reset(self) -> None:
        """Forget every sample."""
        for mean in self._means.values():
            mean.reset()

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            predictions: float [n] or [n, 1], as networks with one output give; n may be 0.
            targets: float [n].

        Raises:
            ArgumentError: shapes do not fit, or a number is not finite.
        """
        flat = predictions.detach().squeeze(1) if predictions.dim() == 2 else predictions.detach()
        if flat.dim() != 1 or flat.shape != targets.shape:
            raise ArgumentError(
                "predictions must be [n] or [n, 1] and targets [n]; "
                f"got {describe(predictions)} and {describe(targets)}"
            )
        for name, values in (("predictions", flat), ("targets", targets)):
            if not values.isfinite().all():
                raise ArgumentError(
                    f"{name} must be finite; {describe(values)} has NaN or infinity"
                )
        if not len(flat):
            return
        for name, error in self._errors.items():
            self._means[name].update(error(flat.double(), targets.double(), reduction="none"))

    def compute(self) -> dict[str, float]:
        """Every figure so far.

        Raises:
            ArgumentError: there was no sample.
        """
        with quiet():
            figures = {name: float(mean.compute()) for name, mean in self._means.items()}
        if any(figure != figure for figure in figures.values()):
            raise ArgumentError("there is no sample to compute metrics of: update() saw none")
        return figures
