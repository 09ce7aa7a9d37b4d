"""NMS on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends.cpu.dtypes import DTYPES
from cvperf.backends.registry import FLOATING, register

_FEW = 1024
"""Boxes whose indices take so little memory that shortening the answer in place is better."""


@register("nms", "cpu", "cpu", FLOATING)
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return _nms(boxes, scores, None, iou_threshold)


@register("batched_nms", "cpu", "cpu", FLOATING)
def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    return _nms(boxes, scores, idxs.to(torch.int64).contiguous(), iou_threshold)


@register("nms", "cpu sweep", "cpu", FLOATING, automatic=False)
def nms_by_sweep(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Each box against all kept ones: what pruning must never be slower than."""
    return _nms(boxes, scores, None, iou_threshold, prune=False)


def _nms(
    boxes: Tensor, scores: Tensor, idxs: Tensor | None, iou_threshold: float, prune: bool = True
) -> Tensor:
    boxes, scores, count = boxes.contiguous(), scores.contiguous(), scores.numel()
    keep = torch.empty(count, dtype=torch.int64)
    kept = _C.nms(
        boxes.data_ptr(),
        scores.data_ptr(),
        0 if idxs is None else idxs.data_ptr(),
        DTYPES[boxes.dtype],
        count,
        iou_threshold,
        keep.data_ptr(),
        prune,
        torch.get_num_threads(),
    )
    if count <= _FEW:
        return keep.resize_(kept)
    # A copy, so that ten kept boxes do not hold the memory of ten thousand.
    return keep[:kept].clone()


@register("nms_padded", "cpu", "cpu", FLOATING)
def nms_padded(
    boxes: Tensor, scores: Tensor, iou_threshold: float, max_output: int
) -> tuple[Tensor, Tensor]:
    boxes, scores = boxes.contiguous(), scores.contiguous()
    images, count = scores.shape
    indices = torch.empty(images, max_output, dtype=torch.int64)
    counts = torch.empty(images, dtype=torch.int64)
    _C.nms_padded(
        boxes.data_ptr(),
        scores.data_ptr(),
        DTYPES[boxes.dtype],
        images,
        count,
        iou_threshold,
        max_output,
        indices.data_ptr(),
        counts.data_ptr(),
        torch.get_num_threads(),
    )
    return indices, counts


@register("soft_nms", "cpu", "cpu", FLOATING)
def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    method: str,
    iou_threshold: float,
    sigma: float,
    score_threshold: float,
    max_output: int | None,
) -> tuple[Tensor, Tensor]:
    boxes, scores = boxes.contiguous(), scores.contiguous()
    limit = scores.numel() if max_output is None else min(max_output, scores.numel())
    indices = torch.empty(limit, dtype=torch.int64)
    selected = torch.empty(limit, dtype=scores.dtype)
    count = _C.soft_nms(
        boxes.data_ptr(),
        scores.data_ptr(),
        DTYPES[boxes.dtype],
        scores.numel(),
        method == "gaussian",
        iou_threshold,
        sigma,
        score_threshold,
        limit,
        indices.data_ptr(),
        selected.data_ptr(),
    )
    return indices[:count].clone(), selected[:count].clone()
