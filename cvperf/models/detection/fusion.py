"""One answer from the boxes of several detectors, or of one on several versions of an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

from cvperf.errors import ArgumentError, check_number, check_tensor, describe

Detections = dict[str, Tensor]


def fuse_boxes(
    answers: Sequence[Detections],
    weights: Sequence[float] | None = None,
    *,
    iou_threshold: float = 0.55,
    score_threshold: float = 0.0,
) -> Detections:
    """Weighted boxes fusion: what several detectors say of one image becomes one.

    Where NMS keeps the best of boxes that lie on one object, here they are averaged by their
    scores. By falling score, a box joins the fused box of its class that it overlaps most, if by
    more than ``iou_threshold``, which then is the mean of all its boxes; else it starts one. The
    score is their mean, times the share of detectors that see the object.

    Args:
        answers: for each detector ``boxes`` float [n, 4], corners in pixels, ``labels`` int64 [n]
            and ``scores`` float [n]; other entries are left out.
        weights: how much each detector counts, above 0; equal by default.
        iou_threshold: overlap above which boxes of a class show one object.
        score_threshold: boxes whose score is not above it are left out.

    Returns:
        ``boxes`` [m, 4], ``labels`` [m] and ``scores`` [m], by falling score (ties: by label, then
        by the best box's score).

    Raises:
        ArgumentError: there is no detector, a shape, a dtype or a device does not fit, or a weight
            is not above 0.

    Complexity: O(n * m) comparisons, a fused box at a time.

    Source: Solovyev, Wang and Gabruseva, "Weighted boxes fusion: Ensembling boxes from different
    object detection models", Image and Vision Computing 2021.
    """
    _check(answers)
    shares = _shares(weights, len(answers))
    check_number("iou_threshold", iou_threshold, "0 to 1")
    check_number("score_threshold", score_threshold, "0 to 1")
    if score_threshold < 0:
        raise ArgumentError(f"score_threshold must be 0 or more, got {score_threshold}")
    like = answers[0]["scores"]
    boxes = torch.cat([each["boxes"].to(like.dtype) for each in answers])
    labels = torch.cat([each["labels"] for each in answers])
    scores = torch.cat([each["scores"].to(like.dtype) for each in answers])
    counts = torch.tensor([len(each["scores"]) for each in answers], device=like.device)
    weight = torch.tensor(shares, dtype=like.dtype, device=like.device).repeat_interleave(counts)
    kept = scores > score_threshold
    boxes, labels, weighted = boxes[kept], labels[kept], (scores * weight)[kept]
    found = []
    for label in labels.unique().tolist():
        mine = labels == label
        fused, summed, members = _fuse(boxes[mine], weighted[mine], iou_threshold)
        # Their mean, times the share of the detectors; of a crowd of one's boxes no more than all.
        score = summed / members * members.clamp(max=len(answers)) / sum(shares)
        found.append((fused, torch.full_like(members, label), score))
    if not found:
        return {"boxes": boxes, "labels": labels, "scores": weighted}
    boxes, labels, scores = (torch.cat(each) for each in zip(*found, strict=True))
    order = scores.sort(descending=True, stable=True).indices
    return {"boxes": boxes[order], "labels": labels[order], "scores": scores[order]}


def _fuse(boxes: Tensor, scores: Tensor, iou_threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of one class: fused boxes [m, 4], the sums of their scores [m] and how many they are."""
    order = scores.sort(descending=True, stable=True).indices
    fused, sums = torch.zeros_like(boxes), torch.zeros_like(scores)
    members = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    count = 0
    for box, score in zip(boxes[order], scores[order], strict=True):
        at = _joined(box, fused[:count], iou_threshold)
        count = max(count, at + 1)
        sums[at] += score
        members[at] += 1
        fused[at] = torch.lerp(fused[at], box, score / sums[at])
    return fused[:count], sums[:count], members[:count]


def _joined(box: Tensor, fused: Tensor, iou_threshold: float) -> int:
    """The fused box [4] that a box belongs to, of [m, 4]; m for a new one."""
    if not len(fused):
        return 0
    overlap, best = box_iou(box[None], fused)[0].max(0)
    return int(best) if overlap > iou_threshold else len(fused)


def _check(answers: Sequence[Detections]) -> None:
    if not len(answers):
        raise ArgumentError("answers is empty: expected the boxes of one detector or more")
    for i, each in enumerate(answers):
        missing = [key for key in ("boxes", "labels", "scores") if key not in each]
        if missing:
            raise ArgumentError(f"answers[{i}] has no {' and no '.join(missing)}")
        boxes, labels, scores = each["boxes"], each["labels"], each["scores"]
        check_tensor(f"answers[{i}]['boxes']", boxes, "boxes[n, 4]", ndim=2)
        check_tensor(f"answers[{i}]['labels']", labels, "labels[n]", ndim=1)
        check_tensor(f"answers[{i}]['scores']", scores, "scores[n]", ndim=1)
        if boxes.shape != (len(scores), 4) or labels.shape != scores.shape:
            raise ArgumentError(
                f"answers[{i}] must have boxes[n, 4], labels[n] and scores[n], got "
                f"{describe(boxes)}, {describe(labels)} and {describe(scores)}"
            )


def _shares(weights: Sequence[float] | None, detectors: int) -> list[float]:
    shares = [1.0] * detectors if weights is None else [float(each) for each in weights]
    if len(shares) != detectors or not all(share > 0 for share in shares):
        raise ArgumentError(
            f"weights must be {detectors} numbers above 0, one a detector; got {weights!r}"
        )
    return shares
