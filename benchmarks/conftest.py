"""Options of ``pytest benchmarks/``."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cvperf")
    group.addoption("--full", action="store_true", help="every shape, not the quick subset")
    group.addoption("--device", default="cpu", choices=("cpu", "cuda"))
    group.addoption("--peers", default="auto", help="auto, or names with commas between")
