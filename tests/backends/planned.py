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
    beside, inside = b"\x5a" * GUARD, b"\x5a" * (max(span, 0) * dtype.itemsize)
    answers = []
    for threads in (1, 2, 3) if span >= SHARED else (1,):
        memory = bytearray(beside + inside + beside)
        address = torch.frombuffer(memory, dtype=torch.uint8).data_ptr() + GUARD
        call([each.data_ptr() for each in read], address, threads)
        assert memory.startswith(beside), "written ahead of the output"
        assert memory.endswith(beside), "written behind the output"
        answers.append(memory)
    assert all(each == answers[0] for each in answers)
    whole = torch.frombuffer(answers[0], dtype=dtype)
    return whole.as_strided(shape, strides, GUARD // dtype.itemsize)
