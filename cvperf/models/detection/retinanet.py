"""RetinaNet: a feature pyramid with two dense heads, trained by the focal loss.

Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import (
    Conv2dNormActivation,
    box_iou,
    generalized_box_iou_loss,
    sigmoid_focal_loss,
)

from cvperf.errors import ArgumentError
from cvperf.models.detection.anchors import AnchorGenerator
from cvperf.models.detection.backbone import channels_of
from cvperf.models.detection.coder import BoxCoder
from cvperf.models.detection.matching import BETWEEN, Matcher
from cvperf.models.detection.names import Renamed
from cvperf.models.detection.one_stage import (
    OneStage,
    anchors_a_place,
    best_scores,
    by_place,
    octaves,
    pick,
    pyramid,
)
from cvperf.models.detection.transform import Resize, Size, Target

_PRIOR = 0.01  # what an untrained head says of every class, or background would swamp the loss

Norm = Callable[[int], nn.Module]


class RetinaNet(OneStage):
    """Boxes from nine anchors a place on maps of stride 8 and more.

    With a residual network its parameters have the names of torchvision's
    ``retinanet_resnet50_fpn``, whose weights load into it, old ones included.

    Losses: ``classification`` and ``bbox_regression``.

    Args:
        num_classes: with the background.
        backbone: ``"small"``, or a residual network of torchvision.
        anchors: sizes for each level, in pixels; by default three an octave.
        ratios: of anchors, height over width, for all levels or for each.
        resize: options of :class:`Resize`; by default ``"small"`` leaves images as they are.
        trainable_layers: of a residual network, from the last.
        norm: of a residual network, ``"batch"`` or ``"frozen"``.
        box_loss: ``"l1"`` of the deltas, or ``"giou"``, generalized IoU (Rezatofighi et al., CVPR
            2019).
        score_threshold: that a detection's score is above.
        nms_threshold: overlap above which the worse of two boxes of a class is dropped.
        max_detections: of an image.
        candidates: of each level, before boxes are dropped for their overlap.

    Raises:
        ArgumentError: the backbone or the loss is unknown, or levels differ in how many anchors
            they have.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: str = "small",
        *,
        anchors: Sequence[Sequence[float]] | None = None,
        ratios: Sequence[Sequence[float]] | Sequence[float] = (0.5, 1.0, 2.0),
        resize: Mapping[str, Any] | None = None,
        trainable_layers: int = 5,
        norm: str = "batch",
        box_loss: str = "l1",
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        max_detections: int = 300,
        candidates: int = 1000,
    ) -> None:
        super().__init__()
        small = backbone == "small"
        self.transform = Resize(**{**({"min_size": None} if small else {}), **(resize or {})})
        self.backbone = pyramid(backbone, trainable_layers, norm)
        sizes = anchors or (octaves(24, 4) if small else octaves(32, 5))
        self.anchor_generator = AnchorGenerator(sizes, ratios)
        head_norm = partial(nn.GroupNorm, 16) if small else None  # trained from nothing
        self.anchors = anchors_a_place(self.anchor_generator)
        self.head = Head(channels_of(self.backbone), self.anchors, num_classes, head_norm)
        self.coder = BoxCoder()
        self.matcher = Matcher(0.5, 0.4, allow_low_quality=True)
        if box_loss not in ("l1", "giou"):
            raise ArgumentError(f'box_loss must be "l1" or "giou", got {box_loss!r}')
        self.box_loss = box_loss
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.max_detections = max_detections
        self.candidates = candidates

    def answer(self, batch: Tensor) -> dict[str, Any]:
        maps = list(self.backbone(batch).values())
        anchors = self.anchor_generator((batch.shape[2], batch.shape[3]), maps)
        logits, deltas = self.head(maps)
        levels = [each.shape[2] * each.shape[3] * self.anchors for each in maps]
        return {"logits": logits, "deltas": deltas, "anchors": anchors, "levels": levels}

    def losses(self, answers: Mapping[str, Any], targets: Sequence[Target]) -> dict[str, Tensor]:
        logits, deltas, anchors = answers["logits"], answers["deltas"], answers["anchors"]
        classification, regression = [], []
        for i, target in enumerate(targets):
            matched = self.matcher(box_iou(target["boxes"], anchors))
            chosen = torch.where(matched >= 0)[0]
            objects = matched[chosen]
            positives = max(1, len(chosen))
            classes = torch.zeros_like(logits[i])
            classes[chosen, target["labels"][objects]] = 1
            counted = matched != BETWEEN
            focal = sigmoid_focal_loss(logits[i][counted], classes[counted], reduction="sum")
            classification.append(focal / positives)
            loss = self._box_loss(deltas[i][chosen], anchors[chosen], target["boxes"][objects])
            regression.append(loss / positives)
        return {
            "classification": torch.stack(classification).mean(),
            "bbox_regression": torch.stack(regression).mean(),
        }

    def _box_loss(self, deltas: Tensor, anchors: Tensor, wanted: Tensor) -> Tensor:
        """Summed over boxes [k, 4]."""
        if self.box_loss == "l1":
            return (deltas - self.coder.encode(wanted, anchors)).abs().sum()
        boxes = self.coder.decode(deltas, anchors)
        return generalized_box_iou_loss(boxes, wanted, reduction="sum")

    def detections(self, answers: Mapping[str, Any], sizes: Sequence[Size]) -> list[Target]:
        levels = answers["levels"]
        anchors = answers["anchors"].split(levels)
        found = []
        for logits, deltas, size in zip(answers["logits"], answers["deltas"], sizes, strict=True):
            parts = zip(logits.split(levels), deltas.split(levels), anchors, strict=True)
            candidates = [self._candidates(*part) for part in parts]
            joined = {key: torch.cat([each[key] for each in candidates]) for key in candidates[0]}
            found.append(pick(joined, size, self.nms_threshold, self.max_detections))
        return found

    def _candidates(self, logits: Tensor, deltas: Tensor, anchors: Tensor) -> Target:
        """Of one level of one image."""
        scores = best_scores(logits.sigmoid(), self.score_threshold, self.candidates)
        best, rows, labels = scores
        boxes = self.coder.decode(deltas[rows], anchors[rows])
        return {"boxes": boxes, "scores": best, "labels": labels}


class Head(nn.Module):
    """Class logits and box deltas of all anchors, by the same convolutions on every level.

    Args:
        channels: of the maps.
        anchors: at each place.
        num_classes: with the background, which has a logit too, as torchvision's has.
        norm: after each convolution; none by default.
    """

    def __init__(
        self, channels: int, anchors: int, num_classes: int, norm: Norm | None = None
    ) -> None:
        super().__init__()
        self.classification_head = _Tower("cls_logits", channels, anchors, num_classes, norm)
        self.regression_head = _Tower("bbox_reg", channels, anchors, 4, norm)
        last = self.classification_head.get_submodule("cls_logits")
        nn.init.constant_(last.bias, -math.log((1 - _PRIOR) / _PRIOR))  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps [N, channels, h, w] to [N, A, num_classes] and [N, A, 4]."""
        return self.classification_head(maps), self.regression_head(maps)


class _Tower(Renamed):
    """Four convolutions, and a last one under the name that torchvision gives it."""

    # In torchvision's first weights an activation counted as a layer.
    old_names: ClassVar[Mapping[str, str]] = {f"conv.{2 * i}.": f"conv.{i}.0." for i in range(4)}

    def __init__(
        self, last: str, channels: int, anchors: int, columns: int, norm: Norm | None
    ) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            *(Conv2dNormActivation(channels, channels, norm_layer=norm) for _ in range(4))
        )
        self.add_module(last, nn.Conv2d(channels, anchors * columns, 3, padding=1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.last, self.columns = last, columns

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        last = self.get_submodule(self.last)
        return torch.cat([by_place(last(self.conv(each)), self.columns) for each in maps], 1)
