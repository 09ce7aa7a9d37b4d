"""Without the warnings of torchmetrics about what this package handles."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Classes that never occur, and processes that saw no sample, are no news inside."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No (positive|negative) samples")
        warnings.filterwarnings("ignore", message="The ``compute`` method of metric")
        yield
