"""From scores and boxes of a whole batch to each image's detections."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cvperf import ops
from cvperf.models.detection.transform import Size, Target


def select_detections(
    scores: Tensor,
    boxes_of: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    sizes: Sequence[Size],
    *,
    score_threshold: float,
    nms_threshold: float,
    max_detections: int,
    soft_sigma: float | None = None,
    least_side: float = 1e-2,
) -> list[Target]:
    """The best boxes of each image after suppression within each class, all images in one call.

    Args:
        scores: [K, C] of each proposal and class, without background.
        boxes_of: gives boxes [n, 4] for the indices of n proposals and of n classes. So only the
            boxes whose score is high enough are made.
        images: int64 [K], which image a proposal is of.
        sizes: (height, width) of each image.
        score_threshold: what scores must be above.
        nms_threshold: overlap above which the weaker of two boxes of a class goes.
        max_detections: of an image.
        soft_sigma: lower the scores of what overlaps, by ``ops.soft_nms``, in place of dropping it.
        least_side: pixels, below which a box is none.

    Returns:
        for each image ``boxes`` [n, 4] within it, ``labels`` int64 [n] from 1 on, ``scores`` [n],
        by descending score.
    """
    rows, classes = torch.nonzero(scores > score_threshold).unbind(1)
    of = images[rows]
    boxes = clip_boxes(boxes_of(rows, classes), sizes, of)
    keep = ((boxes[:, 2:] - boxes[:, :2]) >= least_side).all(1)
    boxes, of, labels = boxes[keep], of[keep], classes[keep] + 1
    best = scores[rows, classes][keep].to(boxes.dtype)
    if soft_sigma is not None:
        every = torch.arange(len(of), device=of.device)
        answers = [
            _softened(boxes[these], labels[these], best[these], soft_sigma, score_threshold)
            for these in by_image(every, of, len(sizes))
        ]
        return [{name: each[name][:max_detections] for name in each} for each in answers]
    groups = of * (scores.shape[1] + 1) + labels
    kept = ops.batched_nms(boxes, best, groups, nms_threshold)
    return [
        {"boxes": boxes[each], "labels": labels[each], "scores": best[each]}
        for each in (these[:max_detections] for these in by_image(kept, of, len(sizes)))
    ]


def _softened(boxes: Tensor, labels: Tensor, scores: Tensor, sigma: float, least: float) -> Target:
    """One image's detections after Soft-NMS within each class, by descending decayed score."""
    # Classes apart: in places that no box of another class reaches.
    apart = boxes + (labels * (boxes.max() + 1))[:, None] if len(boxes) else boxes
    kept, decayed = ops.soft_nms(
        apart, scores, method="gaussian", sigma=sigma, score_threshold=least
    )
    return {"boxes": boxes[kept], "labels": labels[kept], "scores": decayed}


def clip_boxes(boxes: Tensor, sizes: Sequence[Size], images: Tensor) -> Tensor:
    """Boxes [..., 4] cut to their images.

    Args:
        boxes: corners ``(x1, y1, x2, y2)``.
        sizes: (height, width) of each image.
        images: int64 [...], which image a box is in.
    """
    most = boxes.new_tensor([[width, height, width, height] for height, width in sizes])
    return boxes.clamp(min=0).minimum(most[images])


def by_image(kept: Tensor, images: Tensor, count: int) -> list[Tensor]:
    """Indices into the boxes of a batch, apart for each of ``count`` images, in their order.

    Args:
        kept: int64 [k].
        images: int64, which image each box of the batch is in.
        count: of images.
    """
    of = images[kept]
    return [kept[of == image] for image in range(count)]
