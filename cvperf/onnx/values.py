"""What an ONNX value is while a model is read: known now, a tensor later, or numbers of a shape.

Exporters build shapes by arithmetic on small integer tensors. Here those stay Python numbers (and
SymInts under ``torch.export``), so that a batch or an image of another size needs no new graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, fx

Number: TypeAlias = int | float | bool | fx.Node
"""A Python number, or the node of the graph that makes one."""


@dataclass(eq=False)
class Constant:
    """A tensor known while the model is read: a weight, or what was computed from such."""

    tensor: Tensor
    name: str = ""
    """The ONNX name, after which the parameter or buffer is called."""
    trainable: bool = False
    """Becomes a parameter rather than a buffer, if it is floating point."""
    _weight: Constant | None = None

    def as_weight(self) -> Constant:
        """The same tensor as a parameter.

        Exporters write equal tensors once: a layer's bias may be the running mean of another, which
        stays a buffer.
        """
        if self.trainable:
            return self
        if self._weight is None:
            self._weight = Constant(self.tensor, self.name, trainable=True)
        return self._weight

    @property
    def rank(self) -> int:
        return self.tensor.dim()

    @property
    def dtype(self) -> torch.dtype:
        return self.tensor.dtype


@dataclass(frozen=True)
class Traced:
    """A tensor that the graph computes when it runs."""

    node: fx.Node
    rank: int | None = None
    """Number of dimensions, None where nobody knows."""
    dtype: torch.dtype | None = None
    sizes: tuple[int | None, ...] = ()
    """The size of each dimension where the file fixes it; empty where nothing is known."""


@dataclass(frozen=True)
class Numbers:
    """A small tensor of known shape whose elements are Python numbers: what ``Shape`` gives."""

    items: tuple[Number, ...]
    """In the order of memory."""
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.int64

    @property
    def rank(self) -> int:
        return len(self.shape)


TensorValue: TypeAlias = Constant | Traced
Value: TypeAlias = Constant | Traced | Numbers


def plain(items: tuple[Number, ...] | list[Number] | fx.Node) -> bool:
    """Whether all numbers are known already."""
    return not isinstance(items, fx.Node) and not any(isinstance(item, fx.Node) for item in items)
