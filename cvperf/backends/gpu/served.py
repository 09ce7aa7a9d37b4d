"""The table of what a GPU backend serves, and its rows' way into the registry."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from cvperf.backends.registry import Backend, arbitrate, register

HALF = (torch.float16, torch.bfloat16)
FLOATS = (*HALF, torch.float32)
"""float64 is left to the CPU: GPUs for vision have next to none of it."""


def _arbiter(backends: tuple[Backend, ...]) -> Backend:
    """Imports what chooses by the first call on a GPU."""
    from cvperf.backends.gpu.choice import between

    return between(backends)


arbitrate("cuda", _arbiter)


@dataclass(frozen=True)
class Served:
    """One row of the table.

    Attributes:
        op: the op, and the function's name.
        file: the file of the backend's folder that has the function.
        dtypes: dtypes of the op's first tensor.
        capability: the least compute capability, 80 for sm_80.
    """

    op: str
    file: str
    dtypes: tuple[torch.dtype, ...]
    capability: int = 80


def serve(
    rows: Iterable[Served], backend: str, unavailable: Callable[[int], str | None], stand_in: bool
) -> None:
    """Register the rows of ``cvperf/backends/{backend}``, whose files are imported when called.

    Args:
        rows: the table.
        backend: its folder, and its name in the registry.
        unavailable: capability -> None, or why this machine cannot run such kernels.
        stand_in: the kernels are interpreted or emulated: they take CPU tensors, and run only when
            asked for by name.
    """
    for row in rows:
        register(
            row.op,
            backend,
            "cpu" if stand_in else "cuda",
            row.dtypes,
            unavailable=functools.partial(unavailable, row.capability),
            automatic=not stand_in,
        )(_function(f"cvperf.backends.{backend}.{row.file}", row.op))


def unavailable_gpu(capability: int) -> str | None:
    """None, or why this machine has no GPU of this capability."""
    if not torch.cuda.is_available():
        return "needs a CUDA GPU, and torch.cuda.is_available() is False"
    major, minor = torch.cuda.get_device_capability()
    if 10 * major + minor < capability:
        return f"needs compute capability {capability / 10}; this GPU has {major}.{minor}"
    return None


def _function(file: str, name: str) -> Callable[..., Any]:
    """Imports the file by the first call."""

    @functools.cache
    def loaded() -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(importlib.import_module(file), name)
        return function

    def call(*args: Any) -> Any:
        return loaded()(*args)

    return call
