"""The tensors of several graphs, equal ones once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from cvperf.engine.saved.arguments import DTYPES
from cvperf.errors import ArgumentError, describe


class SavedWeights:
    """Collects them for a file.

    Attributes:
        tensors: by name, dense, in the order in which they lie in memory.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[Any, str] = {}  # by what they hold

    def add(self, name: str, tensor: Tensor) -> dict[str, Any]:
        """How to find a tensor in the file: the name there, and the order of its dimensions.

        Raises:
            ArgumentError: it is of a kind that a file does not hold.
        """
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            raise ArgumentError(f"{name} cannot be saved: {describe(tensor)}")
        if tensor.dtype not in DTYPES.values():
            raise ArgumentError(f"{name} cannot be saved: {describe(tensor)}; its dtype is unknown")
        order = _order(tensor)
        dense = tensor.permute(order).contiguous()
        content = (dense.dtype, tuple(dense.shape), _digest(dense))
        if content not in self._names:
            self._names[content] = own = _unused(name, self.tensors)
            self.tensors[own] = dense
        return {"tensor": self._names[content], "order": order}


def read_weight(found: Mapping[str, Any], fetch: Callable[[str], Tensor]) -> Tensor:
    """The tensor that :meth:`SavedWeights.add` was given, out of what ``fetch`` gives by name."""
    order = found["order"]
    return fetch(found["tensor"]).permute([order.index(i) for i in range(len(order))])


def _order(tensor: Tensor) -> list[int]:
    """Its dimensions, outermost in memory first; as they are if it has gaps or overlaps."""
    plain = list(range(tensor.dim()))
    order = sorted(plain, key=tensor.stride().__getitem__, reverse=True)
    if tensor.is_contiguous() or not tensor.permute(order).is_contiguous():
        return plain
    return order


def _digest(dense: Tensor) -> bytes:
    data = dense.flatten().view(torch.uint8).numpy()
    return hashlib.sha256(data.data).digest()


def _unused(name: str, taken: Mapping[str, Tensor]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}.{count}"
    return candidate
