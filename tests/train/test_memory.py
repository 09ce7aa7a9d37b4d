"""Memory of a training process."""

import subprocess
import sys

import pytest
import torch

from cvperf.train.memory import ran_out

FAULTS = """
import resource, sys, torch
from cvperf.train.memory import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def step():
    for _ in range(10):
        torch.zeros(10_000_000)
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc is told")
def test_what_a_step_frees_the_next_one_takes() -> None:
    """By page faults: 10 blocks of 40 MB are some 100,000 pages of 4 kB."""
    faults = [
        int(subprocess.check_output([sys.executable, "-c", FAULTS, word], text=True))
        for word in ("keep", "give back")
    ]
    assert faults[0] < 100
    assert faults[1] > 10 * faults[0] + 1000


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error: Exception, is_it: bool) -> None:
    assert ran_out(error) == is_it


def test_the_allocator_of_the_cpu_says_what_is_looked_for() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50)
    assert ran_out(raised.value)
