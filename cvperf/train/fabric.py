"""The processes of a run: one, or as many as torchrun started."""

from __future__ import annotations

import os

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from lightning_fabric.strategies.strategy import Strategy

from cvperf.errors import ArgumentError
from cvperf.train.distributed.sharding import shard
from cvperf.train.recipe import Processes

_PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


def launched(precision: str, processes: Processes | None = None) -> Fabric:
    """Fabric on the GPU, or the CPU where there is none; one of many processes under torchrun.

    Args:
        precision: ``float32``, ``bfloat16`` or ``float16``.
        processes: how several share a model; by default each has it whole.

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
        strategy=_strategy(processes or Processes(), world),
        devices=local,
        num_nodes=world // local,
        precision=_PRECISIONS[precision],  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def _strategy(processes: Processes, world: int) -> Strategy | str:
    if world == 1:
        return "auto"
    if processes.shard:
        return ModelParallelStrategy(
            lambda model, mesh: shard(model, mesh["data_parallel"]),
            data_parallel_size=world,
            tensor_parallel_size=1,
        )
    if processes.average_every:
        # Local SGD is to send nothing between two averages, so no buffers either.
        return DDPStrategy(broadcast_buffers=False)
    return DDPStrategy()
