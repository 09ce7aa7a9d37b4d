"""PANet: Mask R-CNN whose features also travel upwards, and whose boxes read every level."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from cvperf import ops
from cvperf.models.detection.backbone import channels_of, create_backbone
from cvperf.models.detection.box_head import SCALES, BoxPredictor
from cvperf.models.detection.faster_rcnn import (
    BOX_BINS,
    FasterRCNN,
    Options,
    region_proposals,
    scale_of,
)
from cvperf.models.detection.mask_rcnn import MASK_BINS, MaskPredictor, initialise
from cvperf.models.detection.roi_heads import RoIHeads
from cvperf.models.detection.transform import Resize


class PathAggregation(nn.Module):
    """A second way through a feature pyramid, from its finest level up.

    Each new level is the one below it, halved by a convolution, plus the pyramid's own level,
    convolved. So what fine levels see reaches coarse ones in a few layers.

    Args:
        pyramid: a backbone that answers with maps named ``"0"``, ``"1"``, ..., finest first.
        levels: how many of them.
    """

    def __init__(self, pyramid: nn.Module, levels: int = len(SCALES)) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.out_channels = channels_of(pyramid)
        steps = range(levels - 1)
        self.halve = nn.ModuleList(_convolution(self.out_channels, stride=2) for _ in steps)
        self.merge = nn.ModuleList(_convolution(self.out_channels) for _ in steps)
        initialise(self.halve)
        initialise(self.merge)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """The new levels under the old names, and one more, ``"pool"``, of half the coarsest."""
        own = self.pyramid(image)
        levels = [own["0"]]
        for index, (halve, merge) in enumerate(zip(self.halve, self.merge, strict=True), start=1):
            levels.append(merge(halve(levels[-1]) + own[str(index)]))
        named = OrderedDict((str(index), each) for index, each in enumerate(levels))
        named["pool"] = F.max_pool2d(levels[-1], 1, stride=2)
        return named


class EveryLevelPool(nn.Module):
    """RoI Align of each box from every level, for the head to choose what it needs.

    Args:
        output_size: bins each way.
        scales: map pixels a pixel for each level.
    """

    def __init__(self, output_size: int, scales: Sequence[float] = SCALES) -> None:
        super().__init__()
        self.output_size = output_size
        self.scales = tuple(scales)

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> list[Tensor]:
        """For each level patches [K, C, bins, bins] of the boxes [n, 4] of all images."""
        return [
            ops.roi_align(feature, boxes, self.output_size, scale, sampling_ratio=2)
            for feature, scale in zip(features, self.scales, strict=False)
        ]


class FusedBoxHead(nn.Module):
    """Patches of every level to a vector [K, width]: a layer of each level's own, then the maximum.

    Args:
        inputs: numbers of a patch.
        width: of the vector.
        levels: how many.
    """

    def __init__(self, inputs: int, width: int, levels: int = len(SCALES)) -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.Linear(inputs, width) for _ in range(levels))
        self.second = nn.Linear(width, width)

    def forward(self, patches: Sequence[Tensor]) -> Tensor:
        answers = zip(self.first, patches, strict=True)
        fused = reduce(torch.maximum, (F.relu(layer(each.flatten(1))) for layer, each in answers))
        return F.relu(self.second(fused))


class FusedMaskHead(nn.Module):
    """Patches of every level to maps, and to a foreground that a fully connected layer sees.

    The first convolution is each level's own; the maximum of their answers goes on. The fully
    connected branch leaves after the third convolution of four.

    Args:
        channels: of the patches and maps; even.
        side: of the patches.
        levels: how many.
    """

    def __init__(self, channels: int, side: int = MASK_BINS, levels: int = len(SCALES)) -> None:
        super().__init__()
        self.first = nn.ModuleList(_convolution(channels) for _ in range(levels))
        self.middle = nn.Sequential(_convolution(channels), _convolution(channels))
        self.last = _convolution(channels)
        half = Conv2dNormActivation(channels, channels // 2, norm_layer=None)
        self.foreground = nn.Sequential(
            _convolution(channels),
            half,
            nn.Flatten(),
            nn.Linear(channels // 2 * side**2, (2 * side) ** 2),
            nn.Unflatten(1, (1, 2 * side, 2 * side)),
        )
        initialise(self)

    def forward(self, patches: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        answers = zip(self.first, patches, strict=True)
        fused = reduce(torch.maximum, (layer(each) for layer, each in answers))
        maps = self.middle(fused)
        return self.last(maps), self.foreground(maps)


class FusedMaskPredictor(MaskPredictor):
    """Mask logits [K, 2h, 2w] of one class for each box, to which the foreground is added."""

    def forward(self, maps: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:  # type: ignore[override]
        convolved, foreground = maps
        return super().forward(convolved, labels) + foreground.squeeze(1)


def panet(
    num_classes: int,
    backbone: str = "small",
    *,
    trainable_layers: int = 5,
    norm: str = "batch",
    anchors: Sequence[Sequence[float]] | None = None,
    resize: Options | None = None,
    rpn: Options | None = None,
    roi_heads: Options | None = None,
) -> FasterRCNN:
    """PANet with random weights: path augmentation, adaptive pooling, fully connected fusion.

    Its arguments are those of :func:`mask_rcnn`. Targets need ``masks``.

    Source: Liu, Qi, Qin, Shi and Jia, "Path Aggregation Network for Instance Segmentation", CVPR
    2018.
    """
    scale = scale_of(backbone)
    body = PathAggregation(create_backbone(backbone, trainable_layers=trainable_layers, norm=norm))
    channels = channels_of(body)
    parts = (
        EveryLevelPool(BOX_BINS),
        FusedBoxHead(channels * BOX_BINS**2, scale.width),
        BoxPredictor(scale.width, num_classes),
        EveryLevelPool(MASK_BINS),
        FusedMaskHead(channels),
        FusedMaskPredictor(channels, num_classes),
    )
    return FasterRCNN(
        Resize(**{**scale.resize, **(resize or {})}),
        body,
        region_proposals(channels, scale, 1, anchors, rpn),
        RoIHeads(*parts, **{**scale.roi_heads, **(roi_heads or {})}),
    )


def _convolution(channels: int, stride: int = 1) -> nn.Module:
    return Conv2dNormActivation(channels, channels, stride=stride, norm_layer=None)
