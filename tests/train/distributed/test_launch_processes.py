"""Processes for tests: what they return comes back, what they raise is raised, and none stays."""

from __future__ import annotations

import time

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import ProcessRaisedException

from cvperf.train.distributed import launch


def total(value: float) -> tuple[int, float]:
    tensor = torch.tensor(value + dist.get_rank())
    dist.all_reduce(tensor)
    return dist.get_rank(), tensor.item()


def test_processes_form_a_group_and_return_by_rank() -> None:
    assert launch.run(total, 2, 10.0) == [(0, 21.0), (1, 21.0)]


def one_fails() -> None:
    if dist.get_rank() == 1:
        raise ZeroDivisionError("as planned")
    time.sleep(60)


def test_what_a_process_raises_is_raised_and_the_others_end() -> None:
    start = time.monotonic()
    with pytest.raises(ProcessRaisedException, match="as planned"):
        launch.run(one_fails, 2)
    assert time.monotonic() - start < 30


def sleep() -> None:
    time.sleep(60)


def test_processes_that_take_too_long_are_killed() -> None:
    with pytest.raises(TimeoutError, match="sleep in 1 processes took longer than 2 s"):
        launch.run(sleep, 1, timeout_s=2)
