"""Operators that move elements: copies in another order or dtype, concatenation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from cvperf.backends.cpu import copies
from cvperf.engine.lower import Lower, lowers
from cvperf.engine.lowerings.orders import order_for
from cvperf.engine.passes.convolution import DEPTH_TO_SPACE
from cvperf.engine.steps import Value

_ATEN = torch.ops.aten


@lowers(_ATEN.clone.default)
def clone(lower: Lower, x: Value, *, memory_format: torch.memory_format | None = None) -> Value:
    meta = _ATEN.clone.default(x.meta, memory_format=memory_format)
    return _copied(lower, x, meta)


@lowers(_ATEN._to_copy.default)
def to_copy(lower: Lower, x: Value, **kwargs: Any) -> Any:
    device = kwargs.get("device")
    if device is not None and torch.device(device).type != "cpu":
        return NotImplemented
    meta = _ATEN._to_copy.default(x.meta, **{**kwargs, "device": None, "pin_memory": None})
    if meta.dim() == 4 and kwargs.get("memory_format") is None:
        meta = meta.contiguous(memory_format=torch.channels_last)  # what reads it wants it so
    return _copied(lower, x, meta)


@lowers(_ATEN.reshape.default, _ATEN._unsafe_view.default)
def reshape(lower: Lower, x: Value, size: Sequence[int]) -> Value:
    """A view, which ``lower`` copies for where memory's order is another; torch's own reshape would
    in silence. Of an unsafe view torch knows that nobody else looks at the tensor."""
    result: Value = lower.view(_ATEN.view.default, (x, size), {})
    return result


@lowers(_ATEN.cat.default)
def cat(lower: Lower, tensors: Sequence[Value], dim: int = 0) -> Any:
    shape = _ATEN.cat.default([each.meta for each in tensors], dim).shape
    # torch leaves empty lists out, whatever the others' dimensions
    parts = [each for each in tensors if each.shape != (0,)] or list(tensors[:1])
    if any(part.dtype != tensors[0].dtype or len(part.shape) != len(shape) for part in parts):
        return NotImplemented
    format, order = order_for(*parts)
    parts = [lower.formatted(part, format) for part in parts]
    call, _ = copies.concat(
        [part.shape for part in parts],
        [part.meta.stride() for part in parts],
        dim % len(shape),
        order,
        parts[0].dtype,
    )
    return lower.native("concat", call, parts, lower.program.new(shape, parts[0].dtype, format))


@lowers(DEPTH_TO_SPACE)
def depth_to_space(lower: Lower, x: Value, rows: int, columns: int) -> Value:
    x = lower.image(x)
    n, depth, height, width = x.shape
    channels = depth // (rows * columns)
    parts = x.meta.permute(0, 2, 3, 1).view(n, height, width, rows, columns, channels)
    parts = parts.permute(0, 1, 3, 2, 4, 5)  # dense again in this order
    steps = torch.empty(parts.shape, device="meta").stride()
    call, _ = copies.copy(parts.shape, parts.stride(), steps, x.dtype, x.dtype)
    size = (n, channels, height * rows, width * columns)
    output = lower.program.new(size, x.dtype, torch.channels_last)
    return lower.native("depth_to_space", call, (x,), output)


def _copied(lower: Lower, x: Value, meta: torch.Tensor) -> Value:
    call, _ = copies.copy(x.shape, x.meta.stride(), meta.stride(), x.dtype, meta.dtype)
    return lower.native("copy", call, (x,), lower.program.like(meta))
