"""Launches: on the tensors' GPU, in the interpreter, or compiled only (``offline.compiling``).

Nothing here or in the files beside it waits for the GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from cvperf.backends.gpu.configs import Config
from cvperf.backends.triton import interpreted

Sink = Callable[[Any, tuple[int, ...], tuple[Any, ...], dict[str, Any]], None]

_sinks: list[Sink] = []


def launch(
    kernel: Any, grid: tuple[int, ...], *args: Any, config: Config, **constexprs: Any
) -> None:
    """Run ``kernel`` on the device of its first tensor, without waiting for it.

    Args:
        kernel: a ``triton.jit`` function.
        grid: programs in one to three dimensions; nothing is run if one of them is 0.
        args: the kernel's arguments in order: tensors, descriptors, numbers, None.
        config: tile sizes, warps and stages.
        constexprs: the kernel's other compile-time arguments.
    """
    if math.prod(grid) == 0:
        return
    options = {**constexprs, **config.options}
    if _sinks:
        _sinks[-1](kernel, grid, args, options)
    elif interpreted():
        kernel[grid](*args, **options)
    else:
        with _on_device(next(arg for arg in args if isinstance(arg, Tensor)).device):
            kernel[grid](*args, **options)


@contextmanager
def diverting(sink: Sink) -> Iterator[None]:
    """Hand launches to ``sink(kernel, grid, args, options)`` and run nothing."""
    _sinks.append(sink)
    try:
        yield
    finally:
        _sinks.pop()


def diverted() -> bool:
    """Whether launches are handed to someone who runs nothing."""
    return bool(_sinks)


@contextmanager
def _on_device(device: torch.device) -> Iterator[None]:
    if device.index == torch.cuda.current_device():
        yield
    else:
        with torch.cuda.device(device):
            yield
