"""Running a native call that was made for tensors of known layout."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends.cpu.strides import Ints, dense_strides

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
CHANNELS_LAST, CHANNELS_FIRST = (0, 2, 3, 1), (0, 1, 2, 3)
GUARD = 64
SHARED = 1 << 13  # elements, below which no call is shared between threads


def layout(tensor: Tensor) -> tuple[Ints, Ints]:
    return tuple(tensor.shape), tensor.stride()


def laid_out(tensor: Tensor, order: Ints) -> Tensor:
    """The same numbers, without gaps and in that order."""
    made = torch.empty_strided(
        tensor.shape, dense_strides(tuple(tensor.shape), order), dtype=tensor.dtype
    )
    return made.copy_(tensor)


def written(
    call: _C.Call, read: Sequence[Tensor], shape: Ints, strides: Ints, dtype: torch.dtype
) -> Tensor:
    """What the call writes, the same bits with 1 to 3 threads and none beside it."""
    span = 1 + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    answers = []
    for threads in (1, 2, 3) if span >= SHARED else (1,):
        bytes = torch.full((max(span, 0) * dtype.itemsize + 2 * GUARD,), 0x5A, dtype=torch.uint8)
        memory = bytes[GUARD : len(bytes) - GUARD].view(dtype)
        call([each.data_ptr() for each in read], memory.data_ptr(), threads)
        assert (bytes[:GUARD] == 0x5A).all(), "written ahead of the output"
        assert (bytes[len(bytes) - GUARD :] == 0x5A).all(), "written behind the output"
        answers.append(bytes)
    assert all(torch.equal(each, answers[0]) for each in answers)
    return answers[0][GUARD:].view(dtype).as_strided(shape, strides, GUARD // dtype.itemsize)
