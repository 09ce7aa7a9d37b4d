"""NMS in float64: greedy, a box at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf.backends.registry import FLOATING, register


@register("nms", "reference", "cpu", FLOATING, automatic=False)
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy NMS, one box at a time, each compared with all boxes of lower score."""
    order = scores.sort(stable=True, descending=True).indices
    boxes = boxes[order].double()
    alive = torch.ones(len(order), dtype=torch.bool)
    for i in range(len(order)):
        if not alive[i]:
            continue
        overlaps = _overlaps(boxes, i) > iou_threshold
        overlaps[: i + 1] = False
        alive &= ~overlaps
    return order[alive]


def _overlaps(boxes: Tensor, i: int) -> Tensor:
    """IoU of box i with every box: NaN for 0 / 0, inf / inf and NaN coordinates."""
    x1, y1, x2, y2 = boxes.unbind(1)
    areas = (x2 - x1) * (y2 - y1)
    width = (torch.minimum(x2, x2[i]) - torch.maximum(x1, x1[i])).clamp(min=0)
    height = (torch.minimum(y2, y2[i]) - torch.maximum(y1, y1[i])).clamp(min=0)
    intersection = width * height
    return intersection / (areas[i] + areas - intersection)


@register("batched_nms", "reference", "cpu", FLOATING, automatic=False)
def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """NMS of each class by itself, merged by descending score."""
    kept = torch.zeros(len(scores), dtype=torch.bool)
    for label in idxs.unique():
        members = torch.nonzero(idxs == label).flatten()
        kept[members[nms(boxes[members], scores[members], iou_threshold)]] = True
    order = scores.sort(stable=True, descending=True).indices
    return order[kept[order]]


@register("nms_padded", "reference", "cpu", FLOATING, automatic=False)
def nms_padded(
    boxes: Tensor, scores: Tensor, iou_threshold: float, max_output: int
) -> tuple[Tensor, Tensor]:
    """The first ``max_output`` that NMS of each image keeps, then -1."""
    indices = torch.full((len(boxes), max_output), -1)
    counts = torch.zeros(len(boxes), dtype=torch.int64)
    for i in range(len(boxes)):
        kept = nms(boxes[i], scores[i], iou_threshold)[:max_output]
        indices[i, : len(kept)] = kept
        counts[i] = len(kept)
    return indices, counts


@register("soft_nms", "reference", "cpu", FLOATING, automatic=False)
def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    method: str,
    iou_threshold: float,
    sigma: float,
    score_threshold: float,
    max_output: int | None,
) -> tuple[Tensor, Tensor]:
    """The eager algorithm: select the best, scale all others, and again."""
    wide, current = boxes.double(), scores.double()
    waiting = current >= score_threshold
    limit = len(scores) if max_output is None else max_output
    indices: list[int] = []
    selected: list[float] = []
    while len(indices) < limit and bool(waiting.any()):
        best = int(torch.where(waiting, current, -1).argmax())  # the first of equals
        indices.append(best)
        selected.append(float(current[best]))
        overlaps = _overlaps(wide, best).nan_to_num(0.0)
        if method == "linear":
            factors = torch.where(overlaps > iou_threshold, 1 - overlaps, 1.0)
        else:
            factors = torch.exp(-(overlaps**2) / sigma)
        current = current * factors
        waiting[best] = False
        waiting &= current >= score_threshold
    return torch.tensor(indices, dtype=torch.int64), torch.tensor(selected, dtype=scores.dtype)
