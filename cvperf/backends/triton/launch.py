"""Launches: on the tensors' GPU, in the interpreter, or compiled only (``offline.compiling``).

Nothing here or in the files beside it waits for the GPU.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cvperf.backends.triton import interpreted
from cvperf.backends.triton.configs import Config
from cvperf.backends.triton.model import H100, Architecture, architecture

Sink = Callable[[Any, tuple[int, ...], tuple[Any, ...], dict[str, Any]], None]

# The interpreter takes each program as a third of a millisecond: two stand for all processors.
_assumed: list[Architecture] = [replace(H100, processors=2)]
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


def machine(device: torch.device) -> Architecture:
    """The GPU that a launch on this device is for: its own, or the one that is assumed."""
    if _sinks or interpreted() or len(_assumed) > 1:
        return _assumed[-1]
    return _at_hand(torch.cuda.current_device() if device.index is None else device.index)


@contextmanager
def assuming(one: Architecture) -> Iterator[None]:
    """Functions choose as they would on this GPU: in the interpreter, offline, and in tests."""
    _assumed.append(one)
    try:
        yield
    finally:
        _assumed.pop()


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


@functools.cache
def _at_hand(index: int) -> Architecture:
    facts: Any = torch.cuda.get_device_properties(index)
    return architecture(
        10 * facts.major + facts.minor,
        facts.multi_processor_count,
        facts.shared_memory_per_block_optin,
    )


@contextmanager
def _on_device(device: torch.device) -> Iterator[None]:
    if device.index == torch.cuda.current_device():
        yield
    else:
        with torch.cuda.device(device):
            yield
