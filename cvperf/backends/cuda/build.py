"""Compiling everything that ships ahead of the first call, with every processor."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed

from cvperf.backends.cuda import cache, compiler, shipped
from cvperf.backends.cuda.kernel import Kernel
from cvperf.backends.cuda.offline import launched
from cvperf.backends.gpu.model import Architecture


def wanted(gpus: Iterable[Architecture]) -> list[tuple[Kernel, int]]:
    """(kernel, capability) of all that ships for these GPUs, each once."""
    pairs = [
        (kernel, gpu.capability)
        for gpu in gpus
        for kernel in launched(gpu, [call.run for call in shipped.calls()])
    ]
    return list(dict.fromkeys(pairs))


def build(gpus: Iterable[Architecture], done: Callable[[str], None] = lambda name: None) -> int:
    """Compile all that ships for these GPUs into the cache; how many kernels that are.

    Args:
        gpus: for which.
        done: called when a kernel is there, with its name.

    Raises:
        CompileError, UnsupportedError: as ``compile_kernel``, of the first that fails.
    """
    compiler.compiler()  # what it imports is not to be imported by several threads at once
    pairs = wanted(gpus)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {pool.submit(cache.binary, *pair): pair for pair in pairs}
        try:
            for one in as_completed(running):
                one.result()
                done(running[one][0].name)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return len(pairs)
