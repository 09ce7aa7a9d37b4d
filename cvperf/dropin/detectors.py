"""Parts of torchvision's detectors that are Python and no operators, on our kernels."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from cvperf.dropin.mask_heads import with_masks_of_class
from cvperf.ops.multiscale_roi_align import multiscale_roi_align
from cvperf.ops.nms import batched_nms
from cvperf.ops.paste_masks import paste_masks


def with_our_kernels(module: nn.Module) -> nn.Module:
    """torchvision's ``SSD``, ``MultiScaleRoIAlign`` and ``GeneralizedRCNNTransform`` without their
    loops over classes, levels and masks, and its ``RoIHeads`` without the masks of other classes.

    Returns:
        A copy that shares everything with ``module``; ``module`` itself if it is another class.
    """
    kind = (type(module).__module__, type(module).__name__)
    if kind == ("torchvision.models.detection.roi_heads", "RoIHeads"):
        return with_masks_of_class(module)
    make = {
        ("torchvision.models.detection.ssd", "SSD"): _ssd,
        ("torchvision.ops.poolers", "MultiScaleRoIAlign"): _pooler,
        ("torchvision.models.detection.transform", "GeneralizedRCNNTransform"): _transform,
    }.get(kind)
    if make is None:
        return module
    twin = copy.copy(module)
    twin.__class__ = make(type(module))
    return twin


def _ssd(original: Any) -> Any:
    """torchvision's selects and sorts the boxes of each class by itself: ten operators for each of
    90 classes, more time than the network."""

    from torchvision.ops import clip_boxes_to_image

    class SSD(original):  # type: ignore[misc]
        def postprocess_detections(
            self,
            head_outputs: Mapping[str, Tensor],
            image_anchors: Sequence[Tensor],
            image_shapes: Sequence[tuple[int, int]],
        ) -> list[dict[str, Tensor]]:
            regression = head_outputs["bbox_regression"]
            scores = head_outputs["cls_logits"].softmax(-1)
            return [
                self._detections(*each)
                for each in zip(regression, scores, image_anchors, image_shapes, strict=True)
            ]

        def _detections(
            self, regression: Tensor, scores: Tensor, anchors: Tensor, image_shape: tuple[int, int]
        ) -> dict[str, Tensor]:
            boxes = clip_boxes_to_image(
                self.box_coder.decode_single(regression, anchors), image_shape
            )
            by_class = scores[:, 1:].t()  # without the background
            by_class = by_class.masked_fill(~(by_class > self.score_thresh), -torch.inf)
            best, places = by_class.topk(min(self.topk_candidates, len(anchors)), dim=1)
            kept = best > self.score_thresh
            labels, _ = kept.nonzero(as_tuple=True)
            boxes, best, labels = boxes[places[kept]], best[kept], labels + 1
            chosen = batched_nms(boxes, best, labels, self.nms_thresh)[: self.detections_per_img]
            return {"boxes": boxes[chosen], "scores": best[chosen], "labels": labels[chosen]}

    return SSD


def _pooler(original: Any) -> Any:
    """torchvision's calls roi_align for each level and gathers the answers."""

    class MultiScaleRoIAlign(original):  # type: ignore[misc]
        def forward(
            self,
            x: Mapping[str, Tensor],
            boxes: Sequence[Tensor],
            image_shapes: Sequence[tuple[int, int]],
        ) -> Tensor:
            if self.scales is None or not _halves(self.scales):
                pooled: Tensor = super().forward(x, boxes, image_shapes)  # finds the scales
                return pooled
            return multiscale_roi_align(
                [x[name] for name in x if name in self.featmap_names],
                boxes,
                self.output_size,
                self.scales,
                self.sampling_ratio,
                canonical_scale=self.canonical_scale,
                canonical_level=self.canonical_level,
            )

    return MultiScaleRoIAlign


def _halves(scales: Sequence[float]) -> bool:
    """Whether each level is half of the one before, as ours wants it. torchvision's MobileNetV3 has
    two of one size."""
    return all(fine == 2 * coarse for fine, coarse in pairwise(scales))


def _transform(original: Any) -> Any:
    """torchvision's resizes each mask by itself, writes it into an image of its own and copies all
    of them once more."""

    class GeneralizedRCNNTransform(original):  # type: ignore[misc]
        def postprocess(
            self,
            result: list[dict[str, Tensor]],
            image_shapes: list[tuple[int, int]],
            original_image_sizes: list[tuple[int, int]],
        ) -> list[dict[str, Tensor]]:
            masks = [each.pop("masks", None) for each in result]
            result = super().postprocess(result, image_shapes, original_image_sizes)
            for found, mask, size in zip(result, masks, original_image_sizes, strict=True):
                if mask is not None:
                    found["masks"] = paste_masks(mask, found["boxes"], size, threshold=None)
            return result

    return GeneralizedRCNNTransform
