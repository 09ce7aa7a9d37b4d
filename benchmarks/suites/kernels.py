"""Every op over the shape lists."""

from __future__ import annotations

from collections.abc import Sequence

from cvperf.bench import shapes as lists
from cvperf.bench.problems.base import Shape


def shapes(quick: bool, device: str) -> Sequence[Shape]:
    """The lists of benchmarks/shapes, or the subset marked quick."""
    return lists.load(None, quick=quick, device=device)
