"""Processes of one machine as one group, for tests and for trying out; for work use torchrun."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

# Imported once, by the server that processes are forked from: one then starts in milliseconds.
_PRELOAD = [
    f"cvperf.train.distributed.{name}"
    for name in ("checkpoint", "pipeline", "sharding", "averaging")
]


def run(
    function: Callable[..., Any], processes: int, *arguments: Any, timeout_s: float = 60.0
) -> list[Any]:
    """Call ``function(*arguments)`` in each of some processes that form a gloo group.

    The server that they are forked from starts with the first call and ends with this process.

    Args:
        function: a function of a module (it is pickled by name). It finds the group initialised
            and torch at one thread.
        processes: how many.
        arguments: pickled too.
        timeout_s: how long all of it may take; processes still alive then are killed.

    Returns:
        What the function returned in each process, by rank; saved and loaded by torch.

    Raises:
        TimeoutError: it took longer.
        torch.multiprocessing.ProcessException: a process raised (with its traceback) or died.
    """
    multiprocessing.set_forkserver_preload(_PRELOAD)
    deadline = time.monotonic() + timeout_s
    with tempfile.TemporaryDirectory() as folder:
        context = start_processes(
            _work,
            (function, arguments, processes, folder, timeout_s),
            nprocs=processes,
            join=False,
            daemon=True,
            start_method="forkserver",
        )
        try:
            while not context.join(timeout=max(0.0, deadline - time.monotonic())):
                if time.monotonic() >= deadline:
                    raise TimeoutError(
                        f"{function.__qualname__} in {processes} processes took longer than "
                        f"{timeout_s} s; they were killed. Raise timeout_s if that is too short"
                    )
        finally:
            for process in context.processes:
                process.kill()
                process.join()
        return [
            torch.load(Path(folder, f"{rank}.pt"), weights_only=False) for rank in range(processes)
        ]


def _work(
    rank: int,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    processes: int,
    folder: str,
    timeout_s: float,
) -> None:
    torch.set_num_threads(1)
    # As torchrun sets them.
    world = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "GROUP_RANK": "0"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), **world}
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=processes,
        timeout=timedelta(seconds=timeout_s),
    )
    try:
        torch.save(function(*arguments), Path(folder, f"{rank}.pt"))
    finally:
        dist.destroy_process_group()
