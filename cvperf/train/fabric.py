"""The processes of a run: one, or as many as torchrun started."""

from __future__ import annotations

import os

import torch
from lightning_fabric import Fabric

from cvperf.errors import ArgumentError

_PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


def launched(precision: str) -> Fabric:
    """Fabric on the GPU, or the CPU where there is none; one of many processes under torchrun.

    Raises:
        ArgumentError: the precision is unknown, or float16 on a CPU.
    """
    gpu = torch.cuda.is_available()
    if precision not in _PRECISIONS or (precision == "float16" and not gpu):
        known = ", ".join(name for name in _PRECISIONS if gpu or name != "float16")
        raise ArgumentError(f"precision {precision!r} is not available here; known: {known}")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator="cuda" if gpu else "cpu",
        strategy="ddp" if world > 1 else "auto",
        devices=local,
        num_nodes=world // local,
        precision=_PRECISIONS[precision],  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric
