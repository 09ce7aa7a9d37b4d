"""Memory that a batch does not fit into."""

import pytest
import torch

from cvperf.train.memory import ran_out


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
