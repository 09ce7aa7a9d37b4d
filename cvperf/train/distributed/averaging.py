"""Local SGD: processes train alone and average their parameters every few steps.

Stich, "Local SGD Converges Fast and Communicates Little", 2018; with the warm-up, post-local SGD:
Lin, Stich, Patel and Jaggi, "Don't Use Large Mini-Batches, Use Local SGD", 2018. The averager and
the hook are torch's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.post_localSGD_hook import (
    PostLocalSGDState,
    post_localSGD_hook,
)
from torch.distributed.algorithms.model_averaging import averagers, utils

from cvperf.errors import ArgumentError
from cvperf.train.distributed.compression import data_parallel, register
from cvperf.train.distributed.traffic import CountedGroup, Traffic


@dataclass(frozen=True)
class Averaging:
    """When parameters are averaged.

    Attributes:
        period: steps from one average to the next, 2 or more. Traffic falls by this factor.
        warmup_steps: steps at the start whose gradients are all-reduced as usual.
    """

    period: int
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        if self.period < 2:
            raise ArgumentError(
                f"period must be 2 or more, got {self.period}: an average at each step sends as "
                "much as plain DistributedDataParallel"
            )
        if self.warmup_steps < 0:
            raise ArgumentError(f"warmup_steps must be 0 or more, got {self.warmup_steps}")


class LocalSGD:
    """Local SGD for a ``DistributedDataParallel``.

    Call :meth:`after_step` after each step of the optimizer and :meth:`average` at the end of an
    epoch, before validation or a checkpoint: between averages the processes differ. Momentum stays
    with its process. Running statistics of batch norm are averaged with the parameters.

    The averager gives parameters new memory (rows of one flat tensor), in contiguous layout: a
    model in channels-last is better converted after training.
    """

    def __init__(
        self, model: nn.Module, averaging: Averaging, *, group: dist.ProcessGroup | None = None
    ) -> None:
        """Attach to a model, from its next backward on.

        Args:
            model: a ``DistributedDataParallel``, or a wrapper around one.
            averaging: when.
            group: the processes; all of them if None.

        Raises:
            ArgumentError: there is none in the model, or it broadcasts its buffers at each step.
        """
        self._model = data_parallel(model)
        if self._model.broadcast_buffers and any(True for _ in self._model.module.buffers()):
            raise ArgumentError(
                "model sends its buffers at each forward, which local SGD is to save: wrap it as "
                "DistributedDataParallel(..., broadcast_buffers=False)"
            )
        self.traffic = Traffic()
        """Gradients of every step, against what was all-reduced: gradients and averages."""
        counted = CountedGroup(group, self.traffic)
        self._group = counted
        self._averager = averagers.PeriodicModelAverager(
            averaging.period, averaging.warmup_steps, counted
        )
        state = PostLocalSGDState(
            counted, None, averaging.warmup_steps, post_local_gradient_allreduce=False
        )
        register(self._model, state, post_localSGD_hook, self.traffic)

    def after_step(self) -> None:
        """Average the parameters if this step is one that does."""
        averages = self.traffic.calls
        self._averager.average_parameters(self._model.module.parameters())
        if self.traffic.calls > averages:
            self._average(self._floating_buffers())

    def average(self) -> None:
        """Average now: afterwards all processes have the same model."""
        trained = utils.get_params_to_average(self._model.module.parameters())
        self._average([*trained, *self._floating_buffers()])

    def _average(self, tensors: list[torch.Tensor]) -> None:
        if tensors:
            utils.average_parameters(iter(tensors), self._group)  # type: ignore[arg-type]

    def _floating_buffers(self) -> list[torch.Tensor]:
        return [b for b in self._model.module.buffers() if b.is_floating_point()]
