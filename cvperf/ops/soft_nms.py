"""Soft non-maximum suppression: scale down the scores of boxes that overlap better ones."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf.errors import ArgumentError, check_count, check_number, is_array
from cvperf.ops._arrays import call_with_tensors
from cvperf.ops._library import define
from cvperf.ops.nms import check_boxes

_METHODS = ("linear", "gaussian")


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    *,
    method: str = "linear",
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
    max_output: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Soft-NMS: no box is dropped for its overlap alone, its score decays with it.

    Over and over, the box of the highest score is selected (ties: lower index first), and every
    other score is multiplied by a factor of its IoU with that box: ``1 - iou`` where the IoU is
    above ``iou_threshold`` (linear), or ``exp(-iou ** 2 / sigma)`` (gaussian). It ends when no
    score is at least ``score_threshold``. An IoU that is NaN (two boxes without area, a NaN
    coordinate) counts as 0, and a score that is NaN is never selected. float16 and bfloat16 are
    widened to float32, decayed there and rounded once.

    Args:
        boxes: [N, 4] corners ``(x1, y1, x2, y2)`` in pixels; float16, bfloat16, float32 or float64.
        scores: [N], same dtype and device as ``boxes``.
        method: ``"linear"`` or ``"gaussian"``.
        iou_threshold: linear only: overlaps up to this leave a score as it is, usually 0 to 1.
        sigma: gaussian only: above 0; the smaller, the more an overlap costs.
        score_threshold: 0 or more; a box whose score falls below it is gone.
        max_output: how many boxes are wanted at most; None for all.

    Returns:
        ``(indices, scores)``: int64 [K] and [K] of the dtype of ``scores``, the selected boxes in
        the order of selection, which is by descending decayed score, and those scores. No gradient
        flows through them.

    Raises:
        ArgumentError: shapes, dtypes or devices do not fit, the method is unknown, or a number is
            NaN or out of its range.
        TypeError: an argument is not a tensor or not a number.

    Complexity: a sort, then O(N * K) comparisons at worst; boxes whose score never becomes the
    highest before ``max_output`` are selected are not compared.

    Source: Bodla et al., "Soft-NMS: Improving Object Detection With One Line of Code", ICCV 2017.
    """
    if not isinstance(boxes, Tensor) and is_array(boxes):
        return call_with_tensors(soft_nms, locals())
    check_boxes(boxes, scores, iou_threshold)
    if method not in _METHODS:
        raise ArgumentError(f"method must be one of {', '.join(_METHODS)}; got {method!r}")
    check_number("sigma", sigma, "above 0")
    if not sigma > 0:
        raise ArgumentError(f"sigma must be above 0, got {sigma}")
    check_number("score_threshold", score_threshold, "0 or more")
    if not score_threshold >= 0:
        raise ArgumentError(f"score_threshold must be 0 or more, got {score_threshold}")
    if max_output is not None:
        check_count("max_output", max_output)
    numbers = (method, iou_threshold, sigma, score_threshold, max_output)
    return _soft_nms(boxes.detach(), scores.detach(), *numbers)


def _fake_soft_nms(
    boxes: Tensor,
    scores: Tensor,
    method: str,
    iou_threshold: float,
    sigma: float,
    score_threshold: float,
    max_output: int | None,
) -> tuple[Tensor, Tensor]:
    selected = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty(selected, dtype=torch.int64), scores.new_empty(selected)


_soft_nms = define(
    "soft_nms(Tensor boxes, Tensor scores, str method, float iou_threshold, float sigma, "
    "float score_threshold, SymInt? max_output) -> (Tensor, Tensor)",
    _fake_soft_nms,
)
