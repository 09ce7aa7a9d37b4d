"""Compiling without a GPU: what a launch would have run, its registers and its instructions.

Within ``compiling(90)`` every function of this folder takes tensors on the ``meta`` device, picks
what it would on an sm_90 GPU, and each launch compiles with exactly the specialisation that it
would have there. Meta tensors hold no numbers, so a function that reads one fails: none waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cvperf.backends.gpu.machine import assuming
from cvperf.backends.gpu.model import ARCHITECTURES
from cvperf.backends.gpu.offline import Compiled
from cvperf.backends.triton.launch import diverting


@contextmanager
def compiling(capability: int) -> Iterator[list[Compiled]]:
    """Launches within compile for ``sm_{capability}`` and are listed; nothing runs.

    Args:
        capability: 80, 90 or 100.
    """
    from cvperf.kernels.triton import compat

    done: list[Compiled] = []

    def add(
        kernel: Any, grid: tuple[int, ...], args: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        found = compat.compiled(kernel, *args, **options)
        cubin, shared = found.asm["cubin"], found.metadata.shared
        done.append(Compiled(kernel.fn.__name__, capability, grid, options, shared, cubin))

    with (
        compat.offline_driver(capability),
        assuming(ARCHITECTURES[capability]),
        diverting(add),
    ):
        yield done
