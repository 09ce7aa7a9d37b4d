"""Pasting of masks on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends.cpu.dtypes import DTYPES
from cvperf.backends.cpu.memory import empty
from cvperf.backends.registry import FLOATING, register


@register("paste_masks", "cpu", "cpu", FLOATING)
def paste_masks(
    masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float | None, padding: int
) -> Tensor:
    masks = masks.contiguous()
    boxes = boxes.contiguous() if boxes.dtype == torch.float64 else boxes.float().contiguous()
    count, side, _ = masks.shape
    dtype = masks.dtype if threshold is None else torch.bool
    output = empty((count, height, width), dtype, torch.contiguous_format)
    _C.paste_masks(
        masks.data_ptr(),
        DTYPES[masks.dtype],
        boxes.data_ptr(),
        DTYPES[boxes.dtype],
        count,
        side,
        padding,
        height,
        width,
        threshold,
        output.data_ptr(),
        torch.get_num_threads(),
    )
    return output
