"""Models whose parameters, gradients and optimizer state are spread over processes (FSDP2, ZeRO-3).

Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel", 2023.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from cvperf.errors import ArgumentError
from cvperf.train.distributed.blocks import blocks, parameter_bytes


def shard(model: nn.Module, mesh: DeviceMesh | None = None, *, pieces: int = 32) -> nn.Module:
    """Split every parameter over the processes, in place; a block's are gathered while it runs.

    A process keeps 1/n of parameters, gradients and optimizer state, and of the rest one block at a
    time. Make the optimizer after this. Data parallel as DistributedDataParallel: each process has
    a batch of its own, gradients are averaged.

    Args:
        model: a plain module.
        mesh: the processes; all of them if None.
        pieces: blocks (residual blocks, layers of a sequence) with at least ``1 / pieces`` of the
            parameters' bytes are gathered by themselves, the rest with the whole.

    Returns:
        The same model; its parameters are contiguous, channels-last or not, as FSDP2 needs them.

    Raises:
        ArgumentError: ``pieces`` is less than 1.
    """
    if pieces < 1:
        raise ArgumentError(f"pieces must be 1 or more, got {pieces}")
    model.to(memory_format=torch.contiguous_format)
    whole = parameter_bytes(model)
    for _, block in blocks(model, most=whole / 2):
        if parameter_bytes(block) >= whole / pieces:
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Inside, every process has all parameters, and a forward waits for no other process.

    For validation, where one may have a batch more than another. All processes enter together. A
    model that is not sharded is left alone.
    """
    sharded = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for module in sharded:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in sharded:
            module.reshard()
            module.set_reshard_after_forward(module is not model, recurse=False)
