"""torchvision's mask heads compute the masks of all classes and then take one of each box."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class MaskOfClass(nn.Module):
    """What a ``MaskRCNNPredictor`` computes, of one class for each box.

    Of COCO's 91 classes that is a ninetieth of its last layer: with the sigmoid that follows, 3 %
    of Mask R-CNN's time on an image with 100 boxes. The children keep their names, for
    ``filter_fn``.
    """

    def __init__(self, predictor: Any) -> None:
        super().__init__()
        self.conv5_mask = predictor.conv5_mask
        self.relu = nn.ReLU()
        self.mask_fcn_logits = predictor.mask_fcn_logits
        self.train(predictor.training)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Logits [K, 2 H, 2 W] of features [K, C, H, W] and labels [K]."""
        hidden = self.relu(self.conv5_mask(features))
        weight = self.mask_fcn_logits.weight.flatten(1)[labels]
        logits = torch.bmm(weight[:, None], hidden.flatten(2)).view(-1, *hidden.shape[2:])
        bias = self.mask_fcn_logits.bias
        return logits if bias is None else logits + bias[labels][:, None, None]


def with_masks_of_class(roi_heads: Any) -> Any:
    """A copy of a ``RoIHeads`` whose ``mask_predictor`` is a :class:`MaskOfClass`; itself if it has
    another predictor than torchvision's own, whose last layer is 1x1."""
    predictor = roi_heads.mask_predictor
    kind = (type(predictor).__module__, type(predictor).__name__)
    if kind != ("torchvision.models.detection.mask_rcnn", "MaskRCNNPredictor"):
        return roi_heads
    if list(predictor._modules) != ["conv5_mask", "relu", "mask_fcn_logits"]:
        return roi_heads
    twin = copy.copy(roi_heads)
    twin.__class__ = _class(type(roi_heads))
    own = {"mask_predictor": MaskOfClass(predictor)}
    twin.__dict__["_modules"] = {**roi_heads._modules, **own}
    return twin


def _class(original: Any) -> Any:
    class RoIHeads(original):  # type: ignore[misc]
        def has_mask(self) -> bool:
            return False  # for the original's forward: masks are made here

        def forward(
            self,
            features: Mapping[str, Tensor],
            proposals: list[Tensor],
            image_shapes: list[tuple[int, int]],
            targets: Sequence[Mapping[str, Tensor]] | None = None,
        ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
            result, losses = super().forward(features, proposals, image_shapes, targets)
            boxes = [each["boxes"] for each in result]
            pooled = self.mask_roi_pool(features, boxes, image_shapes)
            labels = torch.cat([each["labels"] for each in result])
            masks = self.mask_predictor(self.mask_head(pooled), labels).sigmoid()[:, None]
            for each, mask in zip(result, masks.split([len(of) for of in boxes]), strict=True):
                each["masks"] = mask
            return result, losses

    return RoIHeads
