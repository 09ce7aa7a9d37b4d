"""Losses that more than one of the one-stage detectors has, and those of distances and masks.

The focal loss and the IoU losses are torchvision.ops's.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def hard_negative_loss(logits: Tensor, classes: Tensor, negatives: float = 3.0) -> Tensor:
    """Cross-entropy of all objects and of the background that is most like an object.

    Almost every anchor lies on background; of it only the worst ones count, of each image
    ``negatives`` times as many as it has objects.

    Args:
        logits: float [N, A, C] of A anchors in each of N images; class 0 is background.
        classes: int64 [N, A], what each anchor should be; -1 leaves it out.
        negatives: of background for each object.

    Returns:
        float []: their sum, to be divided by the number of objects.

    Source: Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, section 2.2.
    """
    flat = logits.flatten(0, 1), classes.flatten()
    each = F.cross_entropy(*flat, ignore_index=-1, reduction="none").view_as(classes)
    objects = classes > 0
    hardest = each.masked_fill(objects, -torch.inf).sort(1, descending=True).values
    wanted = negatives * objects.sum(1, keepdim=True)
    taken = torch.arange(hardest.shape[1], device=hardest.device) < wanted
    return each[objects].sum() + hardest[taken & hardest.isfinite()].sum()


def distribution_focal_loss(logits: Tensor, distances: Tensor) -> Tensor:
    """Cross-entropy with the two whole numbers that a distance lies between, the nearer more.

    Args:
        logits: float [n, bins]: of the distances 0, 1, ... ``bins - 1``.
        distances: float [n], 0 or more; beyond ``bins - 1`` they count as just below it.

    Returns:
        float [n].

    Source: Li et al., "Generalized Focal Loss", NeurIPS 2020, section 3.3.
    """
    distances = distances.clamp(0, logits.shape[1] - 1 - 0.01)
    below = distances.floor()
    share = distances - below  # of the whole number above
    left = F.cross_entropy(logits, below.long(), reduction="none")
    right = F.cross_entropy(logits, below.long() + 1, reduction="none")
    return left * (1 - share) + right * share


def cropped_mask_loss(logits: Tensor, masks: Tensor, boxes: Tensor) -> Tensor:
    """Binary cross-entropy of masks within their boxes, an object's mean over its box.

    Args:
        logits: float [n, h, w].
        masks: float [n, h, w], 0 to 1.
        boxes: float [n, 4], XYXY in pixels of these maps.

    Returns:
        float [n].

    Source: Bolya et al., "YOLACT: Real-time Instance Segmentation", ICCV 2019, section 3.1.
    """
    each = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    width, height = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1).unbind(1)
    return (each * inside(boxes, logits.shape[1:])).sum((1, 2)) / (width * height)


def inside(boxes: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """bool [n, height, width]: which pixels touch each of boxes [n, 4].

    Args:
        boxes: float [n, 4], XYXY in pixels.
        size: height and width.
    """
    height, width = size
    x1, y1, x2, y2 = boxes[:, :, None, None].unbind(1)
    rows = torch.arange(height, device=boxes.device)[:, None]
    columns = torch.arange(width, device=boxes.device)
    return (columns + 1 > x1) & (columns < x2) & (rows + 1 > y1) & (rows < y2)
