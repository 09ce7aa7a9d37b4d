"""In which order a result's dimensions lie in memory."""

from __future__ import annotations

import torch

from cvperf.engine.steps import Value

Order = tuple[int, ...]


def order_for(*values: Value) -> tuple[torch.memory_format, Order]:
    """Channels last if one of the values lies so; and the order, outermost dimension first."""
    dims = max(len(value.shape) for value in values)
    if dims == 4 and any(value.is_channels_last() for value in values):
        return torch.channels_last, (0, 2, 3, 1)
    return torch.contiguous_format, tuple(range(dims))
