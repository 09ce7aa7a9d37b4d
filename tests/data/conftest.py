"""Tests of data do much tiny work, where a second thread costs more than it gives."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """See ``one_thread``."""
