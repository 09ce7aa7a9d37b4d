"""How good a model is: metrics summed over processes, thresholds, calibration, ensembles."""

from __future__ import annotations

try:
    import torchmetrics as _torchmetrics  # noqa: F401
except ImportError as error:
    raise ImportError("cvperf.eval needs torchmetrics: pip install 'cvperf[train]'") from error

from cvperf.eval.calibration import Reliability, fit_temperature
from cvperf.eval.classification import Classification
from cvperf.eval.detection import Detection, match
from cvperf.eval.ensembles import Stacking, combine
from cvperf.eval.regression import Regression
from cvperf.eval.thresholds import tune_thresholds

__all__ = [
    "Classification",
    "Detection",
    "Regression",
    "Reliability",
    "Stacking",
    "combine",
    "fit_temperature",
    "match",
    "tune_thresholds",
]
