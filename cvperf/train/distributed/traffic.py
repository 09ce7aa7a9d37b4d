"""Counting what a process hands to collectives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

Tensors = list[torch.Tensor]


class Traffic:
    """Bytes that a process handed to collectives.

    They are the payload: elements times the size of one, of every tensor that is all-reduced,
    reduced or broadcast. What goes over a link depends on the algorithm as well: an all-reduce of a
    payload S among n processes as a ring sends 2 (n - 1) / n S from each. Headers are not counted.
    """

    def __init__(self) -> None:
        self.gradients = 0
        """Bytes of the gradients that had to be exchanged, as they came out of the backward."""
        self.by_collective: Counter[str] = Counter()
        """Bytes handed to each kind of collective: "all-reduce", "reduce", "broadcast"."""
        self.calls = 0
        """Collectives that had something to send."""

    @property
    def payload(self) -> int:
        """Bytes handed to all collectives."""
        return self.by_collective.total()

    @property
    def ratio(self) -> float:
        """How many times less was handed over than the gradients have: 1 without compression.

        It is NaN where nothing was to be exchanged, infinite where nothing was exchanged.
        """
        if not self.payload:
            return float("inf") if self.gradients else float("nan")
        return self.gradients / self.payload

    def add(self, collective: str, tensors: Sequence[torch.Tensor]) -> None:
        """Count one call."""
        size = sum(tensor.nbytes for tensor in tensors)
        self.by_collective[collective] += size
        self.calls += size > 0


class CountedGroup(dist.ProcessGroup):
    """A process group whose collectives are counted and then done by the group it stands for.

    A collective that is not counted here is an error of torch's (the group has no backend of its
    own), so that nothing goes uncounted. torch calls these methods from threads of the backend too,
    where a dispatch mode would see nothing.
    """

    def __init__(self, group: dist.ProcessGroup | None, traffic: Traffic) -> None:
        group = group if group is not None else dist.group.WORLD
        if group is None:
            raise RuntimeError("there is no process group: torch.distributed.init_process_group")
        super().__init__(group.rank(), group.size())  # type: ignore[call-arg]
        self.group = group
        self.traffic = traffic

    def allreduce(self, tensors: Tensors, *options: Any) -> dist.Work:  # type: ignore[override]
        self.traffic.add("all-reduce", tensors)
        return self.group.allreduce(tensors, *options)

    def reduce(self, tensors: Tensors, *options: Any) -> dist.Work:  # type: ignore[override]
        self.traffic.add("reduce", tensors)
        return self.group.reduce(tensors, *options)

    def broadcast(self, tensors: Tensors, *options: Any) -> dist.Work:  # type: ignore[override]
        self.traffic.add("broadcast", tensors)
        return self.group.broadcast(tensors, *options)
