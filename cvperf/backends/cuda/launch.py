"""Launches of the kernels in ``kernels/cuda``, without waiting for them.

The first launch of a kernel on a GPU compiles it, or finds it in the cache, and loads it. All
others cost the look-up of a tuple, of the stream, and one call of C++ that packs the arguments and
calls the driver: docs/performance.md has the microseconds. Not yet run on hardware: the tests hand
launches to a library that stands in for the driver.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends.cuda import cache
from cvperf.backends.cuda.compiler import Binary
from cvperf.backends.cuda.driver import INVALID_CONTEXT, driver
from cvperf.backends.cuda.kernel import Kernel
from cvperf.backends.gpu.machine import machine
from cvperf.errors import ArgumentError, LaunchError

__all__ = ["Kernel", "diverted", "diverting", "launch"]

Sink = Callable[[Kernel, tuple[int, int, int], tuple[int, int, int], int, tuple[Any, ...]], None]

_sinks: list[Sink] = []


def launch(
    kernel: Kernel, grid: tuple[int, ...], block: int, *args: Any, shared_bytes: int = 0
) -> None:
    """Run ``kernel`` on the device of its first tensor, without waiting for it.

    It joins torch's current stream of that device, and may be captured into a CUDA graph.

    Args:
        kernel: which.
        grid: blocks in one to three dimensions; nothing is run if one of them is 0.
        block: threads of a block.
        args: the kernel's arguments in order: a tensor or None for a pointer, an int for an int, a
            float for a float, a ``numpy.int64`` for a long long, bytes for a tensor map.
        shared_bytes: dynamic shared memory of a block.

    Raises:
        CompileError: the kernel does not compile for this GPU.
        LaunchError: the driver refuses it: too many threads, or more shared memory than there is.
        UnsupportedError: something to compile or launch with is missing; says what to install.
    """
    if 0 in grid:
        return
    x, y, z = (*grid, 1, 1)[:3]
    if _sinks:
        _sinks[-1](kernel, (x, y, z), (block, 1, 1), shared_bytes, args)
        return
    index = _index(kernel, args)
    if index != torch.cuda.current_device():
        with torch.cuda.device(index):
            launch(kernel, grid, block, *args, shared_bytes=shared_bytes)
        return
    loaded = _loaded.get((kernel, index)) or _load(kernel, index)
    if shared_bytes > loaded.shared_bytes:
        _allow_shared(kernel, loaded, index, shared_bytes)
    stream = torch._C._cuda_getCurrentRawStream(index)
    values = (loaded.handle, (x, y, z), (block, 1, 1), shared_bytes, stream, args)
    status = _C.launch_kernel(loaded.launcher, *values)
    if status == INVALID_CONTEXT:  # this thread's first use of the GPU
        driver().ensure_context(index)
        status = _C.launch_kernel(loaded.launcher, *values)
    if status:
        raise LaunchError(
            f"{kernel.name} of {kernel.file} was not launched on GPU {index} with grid "
            f"{(x, y, z)}, {block} threads and {shared_bytes} bytes of dynamic shared memory: "
            f"{driver().explain(status)}"
        )


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


class _Loaded:
    """A kernel on one GPU."""

    __slots__ = ("handle", "launcher", "shared_bytes")

    def __init__(self, handle: int, launcher: int) -> None:
        self.handle = handle
        self.launcher = launcher
        self.shared_bytes = 0
        """The most dynamic shared memory that it has been allowed."""


_loaded: dict[tuple[Kernel, int], _Loaded] = {}
_lock = threading.Lock()


def _index(kernel: Kernel, args: tuple[Any, ...]) -> int:
    """The GPU of the first tensor."""
    for arg in args:
        if isinstance(arg, Tensor):
            index = arg.get_device()
            if index < 0:
                raise ArgumentError(f"{kernel.name} runs on a GPU, got a tensor on {arg.device}")
            return index
    raise ArgumentError(f"{kernel.name} got no tensor, whose GPU it would run on")


def _load(kernel: Kernel, index: int) -> _Loaded:
    """Compile a kernel and bring it to a GPU; once, also while a CUDA graph is being captured."""
    capability = machine(torch.device("cuda", index)).capability
    binary = cache.binary(kernel, capability)
    with _lock:
        loaded = _loaded.get((kernel, index))
        if loaded is None:
            gpu = driver()
            gpu.ensure_context(index)
            with gpu.loading():
                handle = gpu.kernel(_library(binary), binary.symbol)
                gpu.prepare(handle)
            loaded = _loaded[kernel, index] = _Loaded(handle, gpu.launcher)
    return loaded


@functools.cache
def _library(binary: Binary) -> int:
    """One for all GPUs that run the same code."""
    return driver().load(binary.code)


def _allow_shared(kernel: Kernel, loaded: _Loaded, index: int, shared_bytes: int) -> None:
    try:
        driver().allow_shared(loaded.handle, index, shared_bytes)
    except LaunchError as error:
        raise LaunchError(f"{kernel.name} of {kernel.file} on GPU {index}: {error}") from error
    loaded.shared_bytes = shared_bytes
