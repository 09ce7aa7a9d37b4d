"""Non-maximum suppression: keep the best boxes, drop those that overlap them too much."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cvperf.backends.registry import FLOATING
from cvperf.errors import ArgumentError, check_count, check_number, check_tensor, describe, is_array
from cvperf.ops._arrays import call_with_tensors
from cvperf.ops._library import define


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression.

    Boxes are visited by descending score (ties: lower index first, NaN scores first, as in
    ``torch.sort``). A box is kept unless a kept box overlaps it with an intersection over union
    strictly greater than ``iou_threshold``. The answer is index for index torchvision's, also for
    zero-area, reversed and NaN boxes. float16 and bfloat16 are widened to float32 and compared
    there.

    Args:
        boxes: [N, 4] corners ``(x1, y1, x2, y2)`` in pixels; float16, bfloat16, float32 or float64.
        scores: [N], same dtype and device as ``boxes``.
        iou_threshold: overlap above which the lower-scored box is dropped, usually 0 to 1.

    Returns:
        int64 [K]: indices of the kept boxes by descending score.

    Raises:
        ArgumentError: shapes, dtypes or devices do not fit, or the threshold is NaN.
        TypeError: an argument is not a tensor or not a number.

    Complexity: a sort, then O(N * kept) comparisons at worst; boxes that are far apart are not
    compared (CPU). On a GPU, O(N * (4096 + kept)) of them and N * 512 bytes; the host waits for one
    number, that of the boxes kept, which :func:`nms_padded` spares it.

    Source: greedy NMS as in Dalal and Triggs, "Histograms of Oriented Gradients for Human
    Detection", CVPR 2005; exact pruning described in ``kernels/cpu/nms.cpp``.
    """
    if not isinstance(boxes, Tensor) and is_array(boxes):
        return call_with_tensors(nms, locals())
    check_boxes(boxes, scores, iou_threshold)
    return _nms(boxes, scores, iou_threshold)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """NMS of each class by itself: boxes with different ``idxs`` never suppress each other.

    Classes are separate by construction. No offset is added to the coordinates, so large
    coordinates lose no precision (torchvision's offset trick does lose some).

    Args:
        boxes: [N, 4] corners ``(x1, y1, x2, y2)``; float16, bfloat16, float32 or float64.
        scores: [N], same dtype and device as ``boxes``.
        idxs: [N] class of each box, any integer dtype, any values.
        iou_threshold: overlap above which the lower-scored box of a class is dropped.

    Returns:
        int64 [K]: indices of the kept boxes of all classes by descending score.

    Raises:
        ArgumentError: shapes, dtypes or devices do not fit, or the threshold is NaN.
        TypeError: an argument is not a tensor or not a number.

    Complexity: as :func:`nms` for each class.
    """
    if not isinstance(boxes, Tensor) and is_array(boxes):
        return call_with_tensors(batched_nms, locals())
    check_boxes(boxes, scores, iou_threshold)
    check_tensor("idxs", idxs, "idxs[N]", ndim=1)
    if idxs.is_floating_point() or idxs.is_complex():
        raise ArgumentError(
            f"idxs must be integers, got {describe(idxs)}. Convert it with .to(torch.int64)"
        )
    if idxs.shape[0] != boxes.shape[0] or idxs.device != boxes.device:
        raise ArgumentError(
            f"idxs must have one entry a box, on the device of boxes: idxs is {describe(idxs)}, "
            f"boxes is {describe(boxes)}"
        )
    return _batched_nms(boxes, scores, idxs, iou_threshold)


def nms_padded(
    boxes: Tensor, scores: Tensor, iou_threshold: float, max_output: int
) -> tuple[Tensor, Tensor]:
    """NMS of each image of a batch, with an answer of the same shape whatever is kept.

    For graphs that want static shapes: nothing of the output's size depends on values. Boxes that a
    detector filled up with should have the lowest score; NaN scores come first, as in :func:`nms`.

    Args:
        boxes: [B, N, 4] corners ``(x1, y1, x2, y2)`` of N boxes in each of B images; float16,
            bfloat16, float32 or float64.
        scores: [B, N], same dtype and device as ``boxes``.
        iou_threshold: overlap above which the lower-scored box is dropped, usually 0 to 1.
        max_output: how many boxes of an image are wanted at most, 0 or more.

    Returns:
        ``(indices, counts)``. indices: int64 [B, max_output]; row b starts with the first
        ``max_output`` of ``nms(boxes[b], scores[b], iou_threshold)`` and ends in -1. counts: int64
        [B], how many entries of each row are not -1.

    Raises:
        ArgumentError: shapes, dtypes or devices do not fit, the threshold is NaN, or ``max_output``
            is negative.
        TypeError: an argument is not a tensor or not a number.

    Complexity: as :func:`nms` for each image, images in parallel; each ends at the last box wanted.
    """
    if not isinstance(boxes, Tensor) and is_array(boxes):
        return call_with_tensors(nms_padded, locals())
    _check_batch(boxes, scores, "scores[B, N]", iou_threshold, max_output)
    return _nms_padded(boxes, scores, iou_threshold, max_output)


def multiclass_nms_padded(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_output: int,
    score_threshold: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """NMS of each class of each image by itself, with an answer of the same shape whatever is kept.

    For detectors in graphs: scores of all classes go in, and the best boxes of an image come out,
    whatever their class. Where boxes have one class each, their other scores are 0.

    Args:
        boxes: [B, N, 4] corners ``(x1, y1, x2, y2)`` of N boxes in each of B images; float16,
            bfloat16, float32 or float64.
        scores: [B, N, C] of each of C classes, same dtype and device as ``boxes``.
        iou_threshold: overlap above which the lower-scored box of a class is dropped.
        max_output: how many boxes of an image are wanted at most, 0 or more.
        score_threshold: a score that is not above it does not count; nor does NaN.

    Returns:
        ``(indices, classes, counts)``. indices and classes: int64 [B, max_output]; row b starts
        with box and class of the highest ``scores[b, indices, classes]``, falling (ties: lower
        class first, then as :func:`nms` visits boxes), and ends in -1. counts: int64 [B], how many
        entries of each row are not -1.

    Raises:
        ArgumentError: shapes, dtypes or devices do not fit, a threshold is NaN, or ``max_output``
            is negative.
        TypeError: an argument is not a tensor or not a number.

    Complexity: as :func:`nms_padded` of B * C images, then a sort of C * max_output a row.
    """
    if not isinstance(boxes, Tensor) and is_array(boxes):
        return call_with_tensors(multiclass_nms_padded, locals())
    _check_batch(boxes, scores, "scores[B, N, C]", iou_threshold, max_output)
    check_number("score_threshold", score_threshold, "usually 0 to 1")
    images, count, classes = scores.shape
    counted = torch.where(scores > score_threshold, scores, -torch.inf)
    by_class = counted.transpose(1, 2).flatten(0, 1)  # [B * C, N]
    repeated = boxes.repeat_interleave(classes, 0)
    kept, _ = nms_padded(repeated, by_class, iou_threshold, min(max_output, count))
    best = by_class.gather(1, kept.clamp(min=0)).masked_fill(kept < 0, -torch.inf)
    # Room for all that is wanted, also where there are fewer boxes in all.
    values = F.pad(
        best.unflatten(0, (images, classes)).flatten(1), (0, max_output), value=-torch.inf
    )
    places = F.pad(kept.unflatten(0, (images, classes)).flatten(1), (0, max_output), value=-1)
    top, order = values.sort(dim=1, descending=True, stable=True)
    chosen, found = order[:, :max_output], top[:, :max_output] > -torch.inf
    indices = places.gather(1, chosen).masked_fill(~found, -1)
    labels = (chosen // max(1, min(max_output, count))).masked_fill(~found, -1)
    return indices, labels, found.sum(1)


def check_boxes(boxes: Tensor, scores: Tensor, iou_threshold: float) -> None:
    check_tensor("boxes", boxes, "boxes[N, 4]", ndim=2, dtypes=FLOATING)
    if boxes.shape[1] != 4:
        raise ArgumentError(f"boxes must be boxes[N, 4] (x1, y1, x2, y2), got {describe(boxes)}")
    check_tensor("scores", scores, "scores[N]", ndim=1, like=("boxes", boxes))
    if scores.shape[0] != boxes.shape[0]:
        raise ArgumentError(
            f"scores must have one entry a box: scores is {describe(scores)}, "
            f"boxes is {describe(boxes)}"
        )
    check_number("iou_threshold", iou_threshold, "usually 0 to 1")


def _check_batch(
    boxes: Tensor, scores: Tensor, expected: str, iou_threshold: float, max_output: int
) -> None:
    check_tensor("boxes", boxes, "boxes[B, N, 4]", ndim=3, dtypes=FLOATING)
    if boxes.shape[2] != 4:
        raise ArgumentError(f"boxes must be boxes[B, N, 4] (x1, y1, x2, y2), got {describe(boxes)}")
    ndim = expected.count(",") + 1
    check_tensor("scores", scores, expected, ndim=ndim, like=("boxes", boxes))
    if scores.shape[0] != boxes.shape[0] or scores.shape[1] != boxes.shape[1]:
        raise ArgumentError(
            f"scores must have one entry a box: scores is {describe(scores)}, "
            f"boxes is {describe(boxes)}"
        )
    check_number("iou_threshold", iou_threshold, "usually 0 to 1")
    check_count("max_output", max_output)


def _fake_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    kept = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty(kept, dtype=torch.int64)


def _fake_batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    return _fake_nms(boxes, scores, iou_threshold)


def _fake_nms_padded(
    boxes: Tensor, scores: Tensor, iou_threshold: float, max_output: int
) -> tuple[Tensor, Tensor]:
    images = boxes.shape[0]
    indices = boxes.new_empty((images, max_output), dtype=torch.int64)
    return indices, boxes.new_empty(images, dtype=torch.int64)


_nms = define("nms(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor", _fake_nms)
_batched_nms = define(
    "batched_nms(Tensor boxes, Tensor scores, Tensor idxs, float iou_threshold) -> Tensor",
    _fake_batched_nms,
)
_nms_padded = define(
    "nms_padded(Tensor boxes, Tensor scores, float iou_threshold, SymInt max_output)"
    " -> (Tensor, Tensor)",
    _fake_nms_padded,
)
