"""What a process frees, and takes again."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
import cvperf
torch.set_num_threads(1)
if sys.argv[1] == "keep":
    assert cvperf.keep_freed_memory()
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
