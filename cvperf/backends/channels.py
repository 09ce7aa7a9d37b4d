"""Where in memory the channels of a tensor lie."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf.backends.registry import layout_of


def memory_format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


def dense_format(tensor: Tensor) -> torch.memory_format:
    """Channels-last if the tensor is stored so, else contiguous: the format of its output too."""
    return memory_format(layout_of(tensor) == "channels_last")


def dense(tensor: Tensor) -> Tensor:
    """The tensor without gaps, in its ``dense_format``: a copy only if it has gaps."""
    return tensor.contiguous(memory_format=dense_format(tensor))


def channel_view(tensor: Tensor, axis: int | None) -> tuple[int, int, int]:
    """``(outer, channels, inner)`` of a dense tensor, in the order of memory; None: one channel."""
    elements = tensor.numel()
    if axis is None or tensor.shape[axis] <= 1 or elements == 0:
        return 1, 1, elements
    channels, inner = tensor.shape[axis], tensor.stride(axis)
    return elements // (channels * inner), channels, inner
