"""Mask R-CNN: Faster R-CNN with a fully convolutional head that marks each object's pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from cvperf.models.detection.backbone import channels_of, create_backbone
from cvperf.models.detection.box_head import PyramidPool
from cvperf.models.detection.faster_rcnn import (
    FasterRCNN,
    Options,
    box_parts,
    region_proposals,
    scale_of,
)
from cvperf.models.detection.names import Renamed
from cvperf.models.detection.roi_heads import RoIHeads
from cvperf.models.detection.transform import Resize

MASK_BINS = 14


class MaskHead(Renamed, nn.Sequential):
    """Four 3x3 convolutions on the patches [K, C, 14, 14] of the boxes."""

    old_names: ClassVar = {f"mask_fcn{layer + 1}.": f"{layer}.0." for layer in range(4)}

    def __init__(self, channels: int, norm: type[nn.Module] | None = None) -> None:
        super().__init__(
            *(Conv2dNormActivation(channels, channels, norm_layer=norm) for _ in range(4))
        )
        initialise(self)


class MaskPredictor(nn.Module):
    """Maps [K, channels, h, w] to the mask logits [K, 2h, 2w] of one class for each box.

    Of all classes only the one that is asked for is computed, and what is moved to where the
    transposed convolution puts a pixel is its logit, not its channels.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv5_mask = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.mask_fcn_logits = nn.Conv2d(channels, num_classes, 1)
        initialise(self)

    def forward(self, maps: Tensor, labels: Tensor) -> Tensor:
        """Logits of the classes ``labels``, int64 [K]."""
        boxes, channels, height, width = maps.shape
        up, last = self.conv5_mask, self.mask_fcn_logits
        # Windows side by side: a matrix product gives each pixel its four.
        weight = up.weight.permute(2, 3, 1, 0).reshape(4 * channels, channels)
        bias = up.bias.repeat(4)  # type: ignore[union-attr]
        pixels = maps.permute(0, 2, 3, 1).reshape(-1, channels)
        hidden = F.relu(F.linear(pixels, weight, bias))
        hidden = hidden.view(boxes, height * width * 4, channels)
        # embedding and not an index: its gradient is the same for any number of threads.
        chosen = F.embedding(labels, last.weight.flatten(1))
        logits = torch.bmm(chosen[:, None], hidden.transpose(1, 2)).squeeze(1)
        logits = logits + F.embedding(labels, last.bias[:, None])  # type: ignore[index]
        windows = logits.view(boxes, height, width, 2, 2).permute(0, 1, 3, 2, 4)
        return windows.reshape(boxes, 2 * height, 2 * width)


def initialise(module: nn.Module) -> None:
    """Give convolutions the weights that suit ReLU, and no bias."""
    for each in module.modules():
        if isinstance(each, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(each.weight, mode="fan_out", nonlinearity="relu")
            if each.bias is not None:
                nn.init.zeros_(each.bias)


def mask_rcnn(
    num_classes: int,
    backbone: str = "small",
    *,
    version: int = 1,
    trainable_layers: int = 5,
    norm: str = "batch",
    anchors: Sequence[Sequence[float]] | None = None,
    resize: Options | None = None,
    rpn: Options | None = None,
    roi_heads: Options | None = None,
) -> FasterRCNN:
    """Mask R-CNN with random weights, with torchvision's names for its parameters.

    Its arguments are those of :func:`faster_rcnn`; version 1 is ``maskrcnn_resnet50_fpn``, 2 its
    ``_v2``. Targets need ``masks``.

    Source: He et al., "Mask R-CNN", ICCV 2017.
    """
    scale = scale_of(backbone)
    own_norm = nn.BatchNorm2d if version == 2 else None
    body = create_backbone(
        backbone, trainable_layers=trainable_layers, norm=norm, fpn_norm=own_norm
    )
    channels = channels_of(body)
    parts = (
        *box_parts(channels, num_classes, scale, version),
        PyramidPool(MASK_BINS, scale.canonical_scale),
        MaskHead(channels, own_norm),
        MaskPredictor(channels, num_classes),
    )
    return FasterRCNN(
        Resize(**{**scale.resize, **(resize or {})}),
        body,
        region_proposals(channels, scale, version, anchors, rpn),
        RoIHeads(*parts, **{**scale.roi_heads, **(roi_heads or {})}),
    )
