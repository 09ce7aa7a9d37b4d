"""The suites of ``cvperf bench``: each file lists the cases of one, as shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cvperf.bench.problems.base import Shape
from cvperf.benchmarks.suites import kernels, models, overhead, training

SUITES: Mapping[str, Callable[[bool, str], Sequence[Shape]]] = {
    "kernels": kernels.shapes,
    "models": models.shapes,
    "training": training.shapes,
    "overhead": overhead.shapes,
}
"""Suite -> its shapes, from (quick, device)."""
