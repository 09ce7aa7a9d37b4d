"""pytest plugin: makes cvperf use the native module at CVPERF_MODULE in place of its own."""

from __future__ import annotations

import importlib.util
import os
import sys

import torch  # noqa: F401  (its OpenMP runtime first)

_spec = importlib.util.spec_from_file_location("cvperf._C", os.environ["CVPERF_MODULE"])
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
sys.modules["cvperf._C"] = _module


def pytest_report_header() -> str:
    return f"cvperf._C from {_module.__file__}: {', '.join(_module.available_isas())}"
