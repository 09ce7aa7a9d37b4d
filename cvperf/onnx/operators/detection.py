"""What detectors do behind their network: suppress boxes, crop regions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvperf import ops
from cvperf.onnx.node import Node
from cvperf.onnx.registry import operator
from cvperf.onnx.values import Value, plain


@operator("NonMaxSuppression")
def non_max_suppression(node: Node) -> Value:
    most = node.number(2) if node.has(2) else 0
    overlap, least = (node.number(index) if node.has(index) else None for index in (3, 4))
    if not plain((0 if overlap is None else overlap,)):
        raise node.unsupported("its IoU threshold depends on the model's inputs")
    centred = bool(node.attribute("center_point_box", 0))
    return node.emit(
        suppressed, node.tensor(0), node.tensor(1), most, overlap or 0.0, least, centred, rank=2
    )


@operator("RoiAlign", since=10)
def roi_align_10(node: Node) -> Value:
    return _roi_align(node, aligned=False)


@operator("RoiAlign", since=16)
def roi_align(node: Node) -> Value:
    mode = node.attribute("coordinate_transformation_mode", "half_pixel")
    return _roi_align(node, aligned=mode == "half_pixel")


def _roi_align(node: Node, aligned: bool) -> Value:
    if node.attribute("mode", "avg") != "avg":
        raise node.unsupported("mode 'max'; cvperf.ops.roi_align takes averages")
    size = node.attribute("output_height", 1), node.attribute("output_width", 1)
    scale, samples = node.attribute("spatial_scale", 1.0), node.attribute("sampling_ratio", 0)
    tensors = [node.tensor(index) for index in range(3)]
    return node.emit(crops, *tensors, size, scale, samples, aligned, rank=4)


def suppressed(
    boxes: Tensor,
    scores: Tensor,
    most: Any,
    overlap: float,
    least: Any,
    centred: bool,
) -> Tensor:
    """Boxes [B, N, 4] and scores [B, C, N] -> int64 [K, 3]: image, class and box of each kept one.

    They come by image, class and falling score; ``most`` bounds them for each image and class.
    """
    images, classes = scores.shape[:2]
    corners = _corners(boxes, centred)
    good = torch.ones_like(scores, dtype=torch.bool) if least is None else scores > least
    image, label, box = torch.nonzero(good, as_tuple=True)
    group = image * classes + label
    keep = ops.batched_nms(corners[image, box], scores[image, label, box], group, overlap)
    # From the order of scores to groups, in each of which that order stays.
    keep = keep[torch.sort(group[keep], stable=True).indices]
    found = torch.bincount(group[keep], minlength=images * classes)
    first = torch.cumsum(found, 0) - found
    rank = torch.arange(keep.shape[0], device=keep.device) - first[group[keep]]
    keep = keep[rank < most]
    return torch.stack((image[keep], label[keep], box[keep]), 1)


def _corners(boxes: Tensor, centred: bool) -> Tensor:
    """(y, x) corners in any order, or centre and size, as (least, least, most, most)."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if centred:
        return torch.cat((first - second / 2, first + second / 2), -1)
    return torch.cat((torch.minimum(first, second), torch.maximum(first, second)), -1)


def crops(
    features: Tensor,
    boxes: Tensor,
    images: Tensor,
    size: tuple[int, int],
    scale: float,
    samples: int,
    aligned: bool,
) -> Tensor:
    """Boxes [K, 4] of the images [K] they lie in -> [K, C, *size]."""
    rows = torch.cat((images.to(boxes.dtype)[:, None], boxes), 1)
    ratio = samples if samples > 0 else -1
    return ops.roi_align(
        features, rows, size, spatial_scale=scale, sampling_ratio=ratio, aligned=aligned
    )
