"""Weights that npm hands out, for tests that need them."""

from __future__ import annotations

import shutil

import pytest

from cvperf.data.packages import PACKAGES


def needs(name: str) -> pytest.MarkDecorator:
    """Skips where the package ``name`` is not at hand and npm is not on the machine."""
    absent = shutil.which("npm") is None and not PACKAGES[name].folder.is_dir()
    return pytest.mark.skipif(absent, reason=f"npm is not on PATH, and {name} comes from there")
