"""Shipped calls of the element-wise passes."""

from __future__ import annotations

from collections.abc import Iterator

from cvperf.backends.cuda import elementwise
from cvperf.backends.gpu import shipped_elementwise
from cvperf.backends.gpu.shipped import Call


def calls() -> Iterator[Call]:
    """Every kernel, with the dtypes that models use."""
    return shipped_elementwise.calls(elementwise)
