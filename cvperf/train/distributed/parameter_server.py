"""A synchronous parameter server, on torch's reduce and broadcast.

Li et al., "Scaling Distributed Machine Learning with the Parameter Server", 2014.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from cvperf.errors import ArgumentError
from cvperf.train.distributed.traffic import CountedGroup, Traffic


class ParameterServer:
    """Workers send gradients to one process, which alone has an optimizer and answers parameters.

    Only the server keeps the optimizer's state. The exchange is whole and in step, so the result is
    that of an all-reduce; what differs is who carries the traffic: through the server's link go the
    gradients and parameters of all. docs/scaling.md has what that costs.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        *,
        server: int = 0,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        """Start from the server's parameters and buffers.

        Args:
            model: a plain module (no ``DistributedDataParallel``), alike in all processes.
            optimizer: that of the server; None in workers.
            server: the server's rank in the group. It computes gradients too.
            group: the processes; all of them if None.

        Raises:
            ArgumentError: the server has no optimizer, or a worker has one.
        """
        self.traffic = Traffic()
        """Each process's own: gradients reduced, and parameters broadcast."""
        self._group = CountedGroup(group, self.traffic)
        self._serves = self._group.rank() == server
        if self._serves != (optimizer is not None):
            raise ArgumentError(
                f"optimizer must be that of the server (rank {server}) and None in workers, got "
                f"{type(optimizer).__name__} in rank {self._group.rank()}"
            )
        self._server = server
        self._optimizer = optimizer
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        for tensor in [*model.parameters(), *model.buffers()]:
            dist.broadcast(tensor.detach(), group=self._group, group_src=server)

    @torch.no_grad()
    def step(self) -> None:
        """After a backward: average gradients at the server, step there, and share the result."""
        gradients = [
            p.grad if p.grad is not None else torch.zeros_like(p) for p in self._parameters
        ]
        flat = _flatten_dense_tensors(gradients)
        self.traffic.gradients += flat.nbytes
        dist.reduce(flat.div_(self._group.size()), group=self._group, group_dst=self._server)
        if self._optimizer is not None:
            for parameter, mean in zip(
                self._parameters, _unflatten_dense_tensors(flat, gradients), strict=True
            ):
                parameter.grad = mean
            self._optimizer.step()
        flat = _flatten_dense_tensors(self._parameters)
        dist.broadcast(flat, group=self._group, group_src=self._server)
        for parameter, new in zip(
            self._parameters, _unflatten_dense_tensors(flat, self._parameters), strict=True
        ):
            parameter.copy_(new)
