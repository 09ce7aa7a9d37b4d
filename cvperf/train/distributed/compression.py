"""Compressed gradients for DistributedDataParallel, and a count of what they save.

The compressors are torch's own communication hooks. PowerSGD: Vogels, Karimireddy and Jaggi,
"PowerSGD: Practical Low-Rank Gradient Compression for Distributed Optimization", 2019.
"""

# No `from __future__ import annotations` here: torch compares a hook's annotations with classes.

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

from cvperf.errors import ArgumentError, describe
from cvperf.train.distributed.traffic import CountedGroup, Traffic

Hook = Callable[[Any, GradBucket], torch.futures.Future[torch.Tensor]]

_HALVES: dict[str, Hook] = {
    "none": default_hooks.allreduce_hook,
    "fp16": default_hooks.fp16_compress_hook,
    "bf16": default_hooks.bf16_compress_hook,
}
_FACTORS: dict[str, Callable[[Hook], Hook]] = {
    "fp32": lambda hook: hook,
    "fp16": default_hooks.fp16_compress_wrapper,
    "bf16": default_hooks.bf16_compress_wrapper,
}


@dataclass(frozen=True)
class Compression:
    """How gradients travel.

    Attributes:
        kind: "none"; "fp16" or "bf16", half the bytes; "powersgd", each gradient of two or more
            dimensions as the product of two thin matrices (a filter [out, in, h, w] counts as
            [out, in h w]), with the error fed back at the next step. Vectors travel whole.
        rank: columns of PowerSGD's matrices: 1 sends least, 2 or 4 lose less.
        start_step: PowerSGD starts after this many steps; before, gradients travel whole. torch
            advises a tenth of the run; its minimum is 2.
        factors: what PowerSGD's matrices and the vectors travel as: "fp32", "fp16" or "bf16".
    """

    kind: Literal["none", "fp16", "bf16", "powersgd"] = "none"
    rank: int = 1
    start_step: int = 100
    factors: Literal["fp32", "fp16", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        if self.kind not in (*_HALVES, "powersgd"):
            raise ArgumentError(
                f"kind must be one of {', '.join(_HALVES)}, powersgd; got {describe(self.kind)}"
            )
        if self.factors not in _FACTORS:
            raise ArgumentError(
                f"factors must be one of {', '.join(_FACTORS)}; got {describe(self.factors)}"
            )
        if self.rank < 1:
            raise ArgumentError(f"rank must be 1 or more, got {self.rank}")
        if self.start_step < 2:
            raise ArgumentError(
                f"start_step must be 2 or more, got {self.start_step}: DistributedDataParallel "
                "orders its buckets anew after the first step, and PowerSGD remembers buckets"
            )


@dataclass(frozen=True)
class Compressed:
    """What :func:`compress` attached to a model."""

    traffic: Traffic
    """Filled by every backward from here on."""
    state: Any
    """The hook's state: a ``PowerSGDState``, which can be pickled to resume a run exactly (each
    process has errors of its own), or the process group."""


def compress(
    model: nn.Module, compression: Compression, *, group: dist.ProcessGroup | None = None
) -> Compressed:
    """Compress the gradients of a model from its next backward on, and count the bytes.

    ``traffic.gradients`` counts the gradients' bytes before compression, ``traffic.payload`` what
    the backward's collectives were handed, warm-up steps included; what that means in bytes on a
    link is in :class:`Traffic`. The count is of the calls themselves, so it is exact whatever the
    compressor does.

    Args:
        model: a ``DistributedDataParallel``, or a wrapper around one (as Lightning Fabric gives).
        compression: how.
        group: the processes; all of them if None.

    Raises:
        ArgumentError: there is no ``DistributedDataParallel`` in the model.
        RuntimeError: it has a hook already (torch's).
    """
    found = data_parallel(model)
    traffic = Traffic()
    counted = CountedGroup(group, traffic)
    if compression.kind == "powersgd":
        state: Any = powerSGD_hook.PowerSGDState(
            counted, compression.rank, compression.start_step, orthogonalization_epsilon=1e-8
        )
        hook = _FACTORS[compression.factors](powerSGD_hook.powerSGD_hook)
    else:
        state, hook = counted, _HALVES[compression.kind]
    register(found, state, hook, traffic)
    return Compressed(traffic, state)


def register(model: DistributedDataParallel, state: Any, hook: Hook, traffic: Traffic) -> None:
    """Register a communication hook, and count the gradients that it is given."""

    def counted(state: Any, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
        traffic.gradients += bucket.buffer().nbytes
        return hook(state, bucket)

    model.register_comm_hook(state, counted)


def data_parallel(model: nn.Module) -> DistributedDataParallel:
    """The ``DistributedDataParallel`` that a model is or has inside.

    Raises:
        ArgumentError: there is none.
    """
    for module in model.modules():
        if isinstance(module, DistributedDataParallel):
            return module
    raise ArgumentError(
        f"model must be a DistributedDataParallel or hold one, got {type(model).__name__}: "
        "wrap it first, or let Lightning Fabric do so with DDPStrategy"
    )
