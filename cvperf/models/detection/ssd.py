"""SSD: default boxes on maps of several scales, trained with the hardest background.

Source: Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016; its light heads: Sandler et
al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, section 6.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import Conv2dNormActivation, box_iou

from cvperf.models.detection.backbone import channels_of
from cvperf.models.detection.coder import BoxCoder
from cvperf.models.detection.default_boxes import DefaultBoxes
from cvperf.models.detection.losses import hard_negative_loss
from cvperf.models.detection.matching import BETWEEN, Matcher
from cvperf.models.detection.one_stage import OneStage, best_of_each_class, by_place, pick, pyramid
from cvperf.models.detection.ssd_backbones import NORM, VGG, MobileNet
from cvperf.models.detection.transform import IMAGE_MEAN, IMAGE_STD, Resize, Size, Target


@dataclass(frozen=True)
class Kind:
    """What goes with a backbone, where it is not asked for otherwise."""

    size: int
    """Height and width that images are stretched to."""
    ratios: Sequence[Sequence[float]]
    scales: Sequence[float]
    strides: Sequence[int] | None = None
    mean: Sequence[float] = IMAGE_MEAN
    std: Sequence[float] = IMAGE_STD
    score_threshold: float = 0.01
    nms_threshold: float = 0.45
    max_detections: int = 200
    candidates: int = 400
    light: bool = False
    """Whether heads are separable convolutions."""


_PYRAMID = Kind(300, [[2, 3]] * 5, (0.08, 0.16, 0.32, 0.54, 0.78, 1.0))
_KINDS: Mapping[str, Kind] = {
    "small": Kind(128, [[2, 3]] * 4, (0.2, 0.35, 0.5, 0.75, 1.0)),
    "vgg16": Kind(
        300,
        [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
        (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
        strides=(8, 16, 32, 64, 100, 300),
        mean=(0.48235, 0.45882, 0.40784),
        std=(1 / 255, 1 / 255, 1 / 255),  # that VGG was trained on pixels of 0 to 255
    ),
    "mobilenet_v3_large": Kind(
        320,
        [[2, 3]] * 6,
        [*(0.2 + (0.95 - 0.2) * level / 5 for level in range(6)), 1.0],
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        score_threshold=0.001,
        nms_threshold=0.55,
        max_detections=300,
        candidates=300,
        light=True,
    ),
}


class SSD(OneStage):
    """Boxes and classes by one convolution on each map.

    With ``"vgg16"`` its parameters have the names of torchvision's ``ssd300_vgg16``, with
    ``"mobilenet_v3_large"`` those of ``ssdlite320_mobilenet_v3_large``; their weights load.

    Losses: ``classification`` and ``bbox_regression``.

    Args:
        num_classes: with the background.
        backbone: ``"small"``, ``"vgg16"``, ``"mobilenet_v3_large"``, or a residual network of
            torchvision.
        size: height and width that every image is stretched to; by default 128 for ``"small"``,
            320 for the MobileNet, 300 for the others.
        ratios: for each map, long over short sides of its default boxes.
        scales: for each map and one more, the side of its boxes relative to the image.
        trainable_layers: of a residual network, from the last.
        norm: of a residual network, ``"batch"`` or ``"frozen"``.
        score_threshold: that a detection's score is above; this and the next three by default as
            torchvision has them for the backbone.
        nms_threshold: overlap above which the worse of two boxes of a class is dropped.
        max_detections: of an image.
        candidates: of each class, before boxes are dropped for their overlap.

    Raises:
        ArgumentError: the backbone is unknown, or ratios and scales do not fit each other.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: str = "small",
        *,
        size: int | None = None,
        ratios: Sequence[Sequence[float]] | None = None,
        scales: Sequence[float] | None = None,
        trainable_layers: int = 5,
        norm: str = "batch",
        score_threshold: float | None = None,
        nms_threshold: float | None = None,
        max_detections: int | None = None,
        candidates: int | None = None,
    ) -> None:
        super().__init__()
        kind = _KINDS.get(backbone, _PYRAMID)
        self.backbone, channels = _backbone(backbone, kind, trainable_layers, norm)
        side, strides = size or kind.size, kind.strides
        self.boxes = DefaultBoxes(ratios or kind.ratios, scales or kind.scales, strides)
        self.head = Head(channels, self.boxes.counts(), num_classes, kind.light)
        fixed = (side, side)
        self.transform = Resize(None, 1, kind.mean, kind.std, size_divisible=1, fixed_size=fixed)
        self.coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
        self.matcher = Matcher(0.5, 0.5)
        self.score_threshold = _or(score_threshold, kind.score_threshold)
        self.nms_threshold = _or(nms_threshold, kind.nms_threshold)
        self.max_detections = max_detections or kind.max_detections
        self.candidates = candidates or kind.candidates

    def answer(self, batch: Tensor) -> dict[str, Any]:
        maps = list(self.backbone(batch).values())
        logits, deltas = self.head(maps)
        anchors = self.boxes((batch.shape[2], batch.shape[3]), maps)
        return {"logits": logits, "deltas": deltas, "anchors": anchors}

    def losses(self, answers: Mapping[str, Any], targets: Sequence[Target]) -> dict[str, Tensor]:
        anchors = answers["anchors"]
        matches = [match_every_object(self.matcher, each["boxes"], anchors) for each in targets]
        return multibox_losses(answers, targets, matches, self.coder)

    def detections(self, answers: Mapping[str, Any], sizes: Sequence[Size]) -> list[Target]:
        found = []
        boxes = self.coder.decode(answers["deltas"], answers["anchors"])
        for places, scores, size in zip(boxes, answers["logits"].softmax(-1), sizes, strict=True):
            best, rows, columns = best_of_each_class(
                scores[:, 1:], self.score_threshold, self.candidates
            )
            candidates = {"boxes": places[rows], "scores": best, "labels": columns + 1}
            found.append(pick(candidates, size, self.nms_threshold, self.max_detections))
        return found


def match_every_object(matcher: Matcher, boxes: Tensor, anchors: Tensor) -> Tensor:
    """The object of each anchor, int64 [A] or below 0, where each object has its best anchor.

    Two objects that are best served by one anchor: the later has it.
    """
    overlap = box_iou(boxes, anchors)
    matched = matcher(overlap)
    if not len(boxes):
        return matched
    objects = torch.arange(len(boxes), device=boxes.device)
    return matched.scatter_reduce(0, overlap.argmax(1), objects, "amax", include_self=False)


def multibox_losses(
    answers: Mapping[str, Any],
    targets: Sequence[Target],
    matches: Sequence[Tensor],
    coder: BoxCoder,
) -> dict[str, Tensor]:
    """Of classes and boxes, both a matched anchor's mean over the batch.

    Args:
        answers: ``logits`` [N, A, C] and ``deltas`` [N, A, 4] for ``anchors`` [A, 4].
        targets: with ``boxes`` [n, 4] and ``labels`` [n].
        matches: for each image int64 [A], the object of each anchor or below 0.
        coder: of boxes as deltas.
    """
    classes, regression = [], answers["deltas"].new_zeros(())
    for deltas, target, matched in zip(answers["deltas"], targets, matches, strict=True):
        chosen = torch.where(matched >= 0)[0]
        objects = matched[chosen]
        wanted = coder.encode(target["boxes"][objects], answers["anchors"][chosen])
        regression = regression + F.smooth_l1_loss(deltas[chosen], wanted, reduction="sum")
        labels = torch.where(matched == BETWEEN, -1, 0)
        labels[chosen] = target["labels"][objects]
        classes.append(labels)
    positives = max(1, sum(int((matched >= 0).sum()) for matched in matches))
    loss = hard_negative_loss(answers["logits"], torch.stack(classes))
    return {"classification": loss / positives, "bbox_regression": regression / positives}


class Head(nn.Module):
    """Class logits and box deltas, with a convolution for each map.

    Args:
        channels: of each map.
        anchors: at each place of each map.
        num_classes: with the background.
        light: separable convolutions in place of plain ones.
    """

    def __init__(
        self, channels: Sequence[int], anchors: Sequence[int], num_classes: int, light: bool = False
    ) -> None:
        super().__init__()
        self.classification_head = _Layers(channels, anchors, num_classes, light)
        self.regression_head = _Layers(channels, anchors, 4, light)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps [N, channels, h, w] to [N, A, num_classes] and [N, A, 4]."""
        return self.classification_head(maps), self.regression_head(maps)


class _Layers(nn.Module):
    def __init__(
        self, channels: Sequence[int], anchors: Sequence[int], columns: int, light: bool
    ) -> None:
        super().__init__()
        layer: Callable[[int, int], nn.Module] = partial(nn.Conv2d, kernel_size=3, padding=1)
        self.module_list = nn.ModuleList(
            (_separable if light else layer)(inputs, count * columns)
            for inputs, count in zip(channels, anchors, strict=True)
        )
        self.columns = columns
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if light:
                    nn.init.normal_(module.weight, std=0.03)
                else:
                    nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        pairs = zip(self.module_list, maps, strict=True)
        return torch.cat([by_place(layer(each), self.columns) for layer, each in pairs], 1)


def _separable(inputs: int, filters: int) -> nn.Module:
    by_channel = Conv2dNormActivation(
        inputs, inputs, groups=inputs, norm_layer=NORM, activation_layer=nn.ReLU6
    )
    return nn.Sequential(by_channel, nn.Conv2d(inputs, filters, 1))


def _backbone(
    name: str, kind: Kind, trainable_layers: int, norm: str
) -> tuple[nn.Module, Sequence[int]]:
    """With the channels of each of its maps."""
    if name == "vgg16" or name == "mobilenet_v3_large":
        made = VGG() if name == "vgg16" else MobileNet()
        return made, made.out_channels
    levels = pyramid(name, trainable_layers, norm)
    return levels, [channels_of(levels)] * len(kind.ratios)


def _or(asked: float | None, usual: float) -> float:
    return usual if asked is None else asked
