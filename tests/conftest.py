"""Fixtures that every test folder shares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from cvperf import _C

torch.set_num_threads(2)


@pytest.fixture(params=_C.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each CPU instruction set that this machine can run, in use for the length of the test."""
    before = _C.isa()
    _C.select_isa(request.param)
    yield request.param
    _C.select_isa(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread of torch, for tests that time or do tiny work: of several the slowest decides, and
    on a busy machine that is chance."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers in every run."""
    torch.manual_seed(0)
