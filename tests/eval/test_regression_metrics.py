"""Metrics of regression against torch's losses."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from cvperf import ArgumentError
from cvperf.eval import Regression


def test_figures_are_the_means_over_all_samples_whatever_the_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    found, wanted = torch.randn(100, generator=generator), torch.randn(100, generator=generator)
    metrics = Regression(huber=0.5)
    for part in (slice(0, 7), slice(7, 64), slice(64, 100)):
        metrics.update(found[part, None], wanted[part])
    assert metrics.compute() == pytest.approx(
        {
            "mae": float(F.l1_loss(found, wanted)),
            "mse": float(F.mse_loss(found, wanted)),
            "huber": float(F.huber_loss(found, wanted, delta=0.5)),
        },
        rel=1e-6,
    )
    assert list(Regression(huber=None)._means) == ["mae", "mse"]


def test_nothing_and_nonsense_are_refused() -> None:
    metrics = Regression()
    metrics.update(torch.zeros(0), torch.zeros(0))
    with pytest.raises(ArgumentError, match="no sample"):
        metrics.compute()
    with pytest.raises(ArgumentError, match="predictions must be finite"):
        metrics.update(torch.tensor([float("nan")]), torch.zeros(1))
    with pytest.raises(ArgumentError, match="targets must be finite"):
        metrics.update(torch.zeros(1), torch.tensor([float("inf")]))
    with pytest.raises(ArgumentError, match=r"predictions must be \[n\]"):
        metrics.update(torch.zeros(3, 2), torch.zeros(3))
    with pytest.raises(ArgumentError, match="huber must be above 0"):
        Regression(huber=0)
