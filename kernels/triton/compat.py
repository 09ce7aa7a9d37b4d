"""What differs between triton 3.6 and 3.8, and what is not public in any of them.

Everything else uses only ``triton``, ``triton.language`` and ``triton.tools.tensor_descriptor``,
which these versions share.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

VERSION = tuple(int(part) for part in triton.__version__.split(".")[:2])

NOT_ISSUED = () if VERSION >= (3, 8) else ("UTCIMMA",)
"""Instructions that this version has no use for: before 3.8 int8 on sm_100 took sm_80's IMMA."""


class OfflineDriver:
    """As much of a driver as a compilation asks for; it can launch nothing."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> str:
        return f"sm_{self._target.arch}"  # kernels are remembered by this

    def get_current_stream(self, device: object) -> int:
        return 0


@contextmanager
def offline_driver(capability: int) -> Iterator[None]:
    """Triton takes this machine for one with a GPU of this capability (90 for sm_90)."""
    before = driver._active
    driver.set_active(OfflineDriver(capability))
    try:
        yield
    finally:
        driver._active = before


def compiled(kernel: Any, *args: Any, **options: Any) -> Any:
    """Compile as a launch with these arguments would; the compiled kernel."""
    found = kernel.run(*args, grid=(1,), warmup=True, **options)
    return found.result() if hasattr(found, "result") else found  # 3.6 may compile in background
