"""The fixed tensors of a model, and the forms of them that kernels read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvperf.ops._packed import PackedConv2d


class Weights:
    """Shared by the plans of one model: a weight is packed once for all sizes of the input."""

    def __init__(self) -> None:
        self._packed: dict[Any, PackedConv2d] = {}
        self._tensors: dict[int, Tensor] = {}

    def convolution(self, weight: Tensor, groups: int) -> PackedConv2d:
        """A convolution's weight [O, C / groups, kh, kw], channels-last, and its packed forms."""
        key = (weight.data_ptr(), tuple(weight.shape), groups)
        if key not in self._packed:
            own = weight.contiguous(memory_format=torch.channels_last)
            self._tensors[weight.data_ptr()] = weight  # so that no other takes its address
            self._packed[key] = PackedConv2d(own, groups)
        return self._packed[key]
