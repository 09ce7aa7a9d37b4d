"""Compiling without a GPU: what a launch would have run, its registers and its instructions.

Within ``compiling(90)`` every function of this folder takes tensors on the ``meta`` device, picks
what it would on an sm_90 GPU, and each launch compiles the kernel that it would have run there.
Meta tensors hold no numbers, so a function that reads one fails: none waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from cvperf.backends.cuda import cache
from cvperf.backends.cuda.kernel import Kernel
from cvperf.backends.cuda.launch import diverting
from cvperf.backends.gpu.machine import assuming
from cvperf.backends.gpu.model import ARCHITECTURES, Architecture
from cvperf.backends.gpu.offline import Compiled


@contextmanager
def compiling(capability: int) -> Iterator[list[Compiled]]:
    """Launches within compile for ``sm_{capability}`` and are listed; nothing runs.

    What has been compiled before is found in the cache.

    Args:
        capability: 80, 90 or 100.
    """
    done: list[Compiled] = []

    def add(
        kernel: Kernel, grid: tuple[int, ...], block: object, shared_bytes: int, args: object
    ) -> None:
        found = cache.binary(kernel, capability)
        name, _, template = kernel.name.partition("<")
        variant = {"template": template.removesuffix(">"), "fused": kernel.fused}
        one = Compiled(name, capability, grid, variant, 0, found.code, found.symbol)
        done.append(replace(one, shared=shared_bytes + one.static_shared))

    with assuming(ARCHITECTURES[capability]), diverting(add):
        yield done


def launched(gpu: Architecture, runs: Iterable[Callable[[], Any]]) -> list[Kernel]:
    """The kernels that these calls on meta tensors launch on a GPU, each once; none is compiled."""
    found: dict[Kernel, None] = {}

    def add(kernel: Kernel, *_: object) -> None:
        found[kernel] = None

    with assuming(gpu), diverting(add):
        for run in runs:
            run()
    return list(found)
