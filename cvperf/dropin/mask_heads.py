"""torchvision's mask heads compute the masks of all classes and then take one of each box."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cvperf.engine.passes.transposed import by_place, is_apart


class MaskOfClass(nn.Module):
    """What a ``MaskRCNNPredictor`` computes, of one class for each box.

    Of COCO's 91 classes that is a ninetieth of its last layer: with the sigmoid that follows, 3 %
    of Mask R-CNN's time on an image with 100 boxes. And what is moved to where the transposed
    convolution puts a pixel is its logit, not its 256 channels. The children keep their names, for
    ``filter_fn``.
    """

    def __init__(self, predictor: Any) -> None:
        super().__init__()
        self.window = tuple(predictor.conv5_mask.kernel_size)
        self.conv5_mask = _by_place(predictor.conv5_mask)
        self.relu = nn.ReLU()
        self.mask_fcn_logits = predictor.mask_fcn_logits
        self.train(predictor.training)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Logits [K, 2 H, 2 W] of features [K, C, H, W] and labels [K]."""
        hidden = self.relu(self.conv5_mask(features)).permute(0, 2, 3, 1)
        boxes, height, width, _ = hidden.shape
        rows, columns = self.window
        weight = self.mask_fcn_logits.weight.flatten(1)[labels]
        pixels = hidden.reshape(boxes, height * width * rows * columns, weight.shape[1])
        # a row times columns: as columns times a column torch takes twice as long
        logits = torch.bmm(weight[:, None], pixels.transpose(1, 2))
        bias = self.mask_fcn_logits.bias
        if bias is not None:
            logits = logits + bias[labels][:, None, None]
        places = logits.view(boxes, height, width, rows, columns).permute(0, 1, 3, 2, 4)
        return places.reshape(boxes, height * rows, width * columns)


def _by_place(up: nn.ConvTranspose2d) -> nn.Conv2d:
    """A transposed convolution of windows side by side as one of 1x1."""
    with torch.no_grad():
        weight, bias = by_place(up.weight, up.bias)
    filters, channels = weight.shape[:2]
    layer = nn.Conv2d(channels, filters, 1, bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight)
    layer.bias = None if bias is None else nn.Parameter(bias)
    return layer


def with_masks_of_class(roi_heads: Any) -> Any:
    """A copy of a ``RoIHeads`` whose ``mask_predictor`` is a :class:`MaskOfClass`; itself if it has
    another predictor than torchvision's own."""
    predictor = roi_heads.mask_predictor
    kind = (type(predictor).__module__, type(predictor).__name__)
    known = ("torchvision.models.detection.mask_rcnn", "MaskRCNNPredictor")
    if kind != known or not _is_as_made(predictor):
        return roi_heads
    twin = copy.copy(roi_heads)
    twin.__class__ = _class(type(roi_heads))
    own = {"mask_predictor": MaskOfClass(predictor)}
    twin.__dict__["_modules"] = {**roi_heads._modules, **own}
    return twin


def _is_as_made(predictor: Any) -> bool:
    """Whether it has torchvision's layers: windows side by side, and a 1x1."""
    if list(predictor._modules) != ["conv5_mask", "relu", "mask_fcn_logits"]:
        return False
    up, last = predictor.conv5_mask, predictor.mask_fcn_logits
    return (
        type(up) is nn.ConvTranspose2d
        and is_apart(
            up.kernel_size, up.stride, up.padding, up.output_padding, up.dilation, up.groups
        )
        and type(last) is nn.Conv2d
        and last.kernel_size == (1, 1)
    )


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
