"""NMS on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends.cpu.dtypes import DTYPES
from cvperf.backends.registry import FLOATING, register


@register("nms", "cpu", "cpu", FLOATING)
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return _nms(boxes, scores, None, iou_threshold)


@register("batched_nms", "cpu", "cpu", FLOATING)
def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    return _nms(boxes, scores, idxs.to(torch.int64).contiguous(), iou_threshold)


def _nms(boxes: Tensor, scores: Tensor, idxs: Tensor | None, iou_threshold: float) -> Tensor:
    boxes, scores = boxes.contiguous(), scores.contiguous()
    keep = torch.empty(scores.numel(), dtype=torch.int64)
    kept = _C.nms(
        boxes.data_ptr(),
        scores.data_ptr(),
        0 if idxs is None else idxs.data_ptr(),
        DTYPES[boxes.dtype],
        scores.numel(),
        iou_threshold,
        keep.data_ptr(),
        torch.get_num_threads(),
    )
    # A copy, so that ten kept boxes do not hold the memory of ten thousand.
    return keep[:kept].clone()
