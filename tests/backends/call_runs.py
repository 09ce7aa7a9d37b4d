"""Running a native call that reads one image, with an eye on what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from cvperf import _C

GUARD = 256  # bytes on both sides of the output


Case = TypeVar("Case")


def cases_for(channels: int, cases: Sequence[Case]) -> Sequence[Case]:
    """All of them for one number of channels, some for each other."""
    return cases if channels == 17 else cases[channels % 5 :: 5]


def channels_last(image: Tensor) -> Tensor:
    return image.contiguous(memory_format=torch.channels_last)


def random_image(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if dtype in (torch.int8, torch.uint8):
        return channels_last(torch.randint(-128, 128, shape).to(torch.int8).view(dtype))
    return channels_last(torch.randn(shape).to(dtype))


def run_call(
    made: tuple[_C.Call, tuple[int, int, int, int]],
    image: Tensor,
    dtype: torch.dtype | None = None,
    threads: Sequence[int] = (2,),
) -> Tensor:
    """The output, which has the same bits for each number of threads."""
    call, (images, channels, height, width) = made
    assert image.numel() == 0 or image.is_contiguous(memory_format=torch.channels_last)
    dtype = dtype or image.dtype
    size = images * channels * height * width * dtype.itemsize
    runs = [_run_guarded(call, size, image, count) for count in threads]
    assert all(torch.equal(run, runs[0]) for run in runs)
    return runs[0].view(dtype).view(images, height, width, channels).permute(0, 3, 1, 2)


def _run_guarded(call: _C.Call, size: int, image: Tensor, threads: int) -> Tensor:
    """The bytes of the output, which were dirt before; nothing beside them changes."""
    memory = torch.full((size + 2 * GUARD,), 0xA5, dtype=torch.uint8)
    call([image.data_ptr()], memory.data_ptr() + GUARD, threads)
    assert bool((memory[:GUARD] == 0xA5).all()), "written before the output"
    assert bool((memory[GUARD + size :] == 0xA5).all()), "written beyond the output"
    return memory[GUARD : GUARD + size].clone()
