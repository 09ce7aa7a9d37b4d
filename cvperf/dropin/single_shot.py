"""What torchvision's single-shot detectors do with the answers of their networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cvperf.ops.nms import batched_nms


def ssd(original: Any) -> Any:
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
            return _without_overlaps(self, boxes[places[kept]], best[kept], labels + 1)

    return SSD


def retinanet(original: Any) -> Any:
    """torchvision's searches the scores of all anchors and classes twice: for the values above the
    threshold, and for their places."""

    from torchvision.ops import clip_boxes_to_image

    class RetinaNet(original):  # type: ignore[misc]
        def postprocess_detections(
            self,
            head_outputs: Mapping[str, Sequence[Tensor]],
            anchors: Sequence[Sequence[Tensor]],
            image_shapes: Sequence[tuple[int, int]],
        ) -> list[dict[str, Tensor]]:
            levels = (head_outputs["cls_logits"], head_outputs["bbox_regression"])
            found = []
            for i, image_shape in enumerate(image_shapes):
                logits, regression = ([level[i] for level in each] for each in levels)
                by_level = [
                    self._candidates(*each, image_shape)
                    for each in zip(logits, regression, anchors[i], strict=True)
                ]
                of_all = map(torch.cat, zip(*by_level, strict=True))
                found.append(_without_overlaps(self, *of_all))
            return found

        def _candidates(
            self,
            logits: Tensor,
            regression: Tensor,
            anchors: Tensor,
            image_shape: tuple[int, int],
        ) -> tuple[Tensor, Tensor, Tensor]:
            """Boxes, scores and labels of one level's best."""
            scores = logits.sigmoid().flatten()
            (places,) = torch.where(scores > self.score_thresh)
            best, order = scores[places].topk(min(self.topk_candidates, len(places)))
            places = places[order]
            at = places // logits.shape[-1]
            boxes = self.box_coder.decode_single(regression[at], anchors[at])
            return clip_boxes_to_image(boxes, image_shape), best, places % logits.shape[-1]

    return RetinaNet


def _without_overlaps(
    model: Any, boxes: Tensor, scores: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    chosen = batched_nms(boxes, scores, labels, model.nms_thresh)[: model.detections_per_img]
    return {"boxes": boxes[chosen], "scores": scores[chosen], "labels": labels[chosen]}
