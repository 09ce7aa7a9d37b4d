"""Launches of the kernels in ``kernels/cuda``, without waiting for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cvperf.errors import UnsupportedError


@dataclass(frozen=True)
class Kernel:
    """One kernel, compiled by itself.

    Attributes:
        file: of ``kernels/cuda``, such as ``"nms.cu"``.
        name: the C++ expression that names the function, such as ``"nms_overlaps<64, true>"``.
        fused: whether a product and a sum may round once; False where bits must equal the CPU's.
    """

    file: str
    name: str
    fused: bool = True


Sink = Callable[[Kernel, tuple[int, int, int], tuple[int, int, int], int, tuple[Any, ...]], None]

_sinks: list[Sink] = []


def launch(
    kernel: Kernel, grid: tuple[int, ...], block: int, *args: Any, shared_bytes: int = 0
) -> None:
    """Run ``kernel`` on the device of its first tensor, without waiting for it.

    Args:
        kernel: which.
        grid: blocks in one to three dimensions; nothing is run if one of them is 0.
        block: threads of a block.
        args: the kernel's arguments in order: a tensor or None for a pointer, an int for an int, a
            float for a float, a ``numpy.int64`` for a long long, bytes for a tensor map.
        shared_bytes: dynamic shared memory of a block.
    """
    if math.prod(grid) == 0:
        return
    x, y, z = (*grid, 1, 1)[:3]
    if _sinks:
        _sinks[-1](kernel, (x, y, z), (block, 1, 1), shared_bytes, args)
        return
    raise UnsupportedError("CUDA kernels cannot be launched yet")


@contextmanager
def diverting(sink: Sink) -> Iterator[None]:
    """Hand launches to ``sink(kernel, grid, block, shared_bytes, args)`` and run nothing."""
    _sinks.append(sink)
    try:
        yield
    finally:
        _sinks.pop()


def diverted() -> bool:
    """Whether launches are handed to someone else."""
    return bool(_sinks)
