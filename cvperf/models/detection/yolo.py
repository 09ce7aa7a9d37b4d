"""YOLO without anchors: each place answers a box about itself, and a score for each class.

Sources: Redmon et al., "You Only Look Once", CVPR 2016; Ge et al., "YOLOX: Exceeding YOLO Series
in 2021" (no anchors, heads apart); Feng et al., "TOOD", ICCV 2021 (which places learn an object);
Li et al., "Generalized Focal Loss", NeurIPS 2020 (sides of a box as distributions); Zheng et al.,
"Distance-IoU Loss", AAAI 2020 (the overlap that is learnt).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import complete_box_iou_loss

from cvperf.models.detection.assign import TaskAlignment
from cvperf.models.detection.backbone import resnet_fpn
from cvperf.models.detection.csp import Backbone, Neck, layer
from cvperf.models.detection.losses import distribution_focal_loss
from cvperf.models.detection.one_stage import OneStage, best_scores, by_place, pick
from cvperf.models.detection.transform import Resize, Size, Target

_STRIDES = (8, 16, 32)
_GAINS = {"classification": 0.5, "bbox_regression": 7.5, "distribution": 1.5}
_PRIOR = 0.01  # what an untrained head says of every class


class YOLO(OneStage):
    """Boxes by their distances from each place of maps of stride 8, 16 and 32.

    Losses: ``classification`` (binary cross-entropy), ``bbox_regression`` (complete IoU) and
    ``distribution`` (of the distances); each is a mean over the scores aimed at.

    Args:
        num_classes: with the background, which has no score of its own.
        backbone: ``"small"`` for cross-stage partial stages, or a residual network of torchvision,
            with 256 channels in the neck.
        width: of ``"small"``, channels at stride 2; they double with each stage.
        depth: of ``"small"``, blocks of its first stage.
        bins: whole distances that a side is a mean of, in strides.
        resize: options of :class:`Resize`; by default ``"small"`` leaves images as they are, others
            make the shorter side 640 pixels.
        trainable_layers: of a residual network, from the last.
        norm: of a residual network, ``"batch"`` or ``"frozen"``.
        score_threshold: that a detection's score is above.
        nms_threshold: overlap above which the worse of two boxes of a class is dropped.
        max_detections: of an image.
        candidates: of an image, before boxes are dropped for their overlap.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: str = "small",
        *,
        width: int = 16,
        depth: int = 1,
        bins: int = 16,
        resize: Mapping[str, Any] | None = None,
        trainable_layers: int = 5,
        norm: str = "batch",
        score_threshold: float = 0.01,
        nms_threshold: float = 0.6,
        max_detections: int = 300,
        candidates: int = 3000,
    ) -> None:
        super().__init__()
        self.backbone: nn.Module
        small = backbone == "small"
        if small:
            self.backbone = Backbone(width, depth)
            channels = self.backbone.out_channels
        else:
            self.backbone = resnet_fpn(backbone, trainable_layers, norm=norm, levels=(1, 2, 3))
            channels = [256] * len(_STRIDES)
        self.neck = Neck(channels, depth)
        self.head = Head(channels, num_classes - 1, bins)
        self.transform = Resize(**{"min_size": None if small else 640, **(resize or {})})
        self.assign = TaskAlignment()
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.max_detections = max_detections
        self.candidates = candidates
        self.to(memory_format=torch.channels_last)

    def answer(self, batch: Tensor) -> dict[str, Any]:
        maps = self.backbone(batch)
        if isinstance(maps, dict):
            maps = list(maps.values())[: len(_STRIDES)]  # without the pyramid's pooled one
        maps = self.neck(maps)
        logits, distances = self.head(maps)
        centres, strides = _places(maps)
        sides = self.head.mean(distances) * strides[:, None]
        boxes = torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], -1)
        return {
            "logits": logits, "distances": distances, "boxes": boxes, "centres": centres,
            "strides": strides,
        }  # fmt: skip

    def losses(self, answers: Mapping[str, Any], targets: Sequence[Target]) -> dict[str, Tensor]:
        logits, boxes, centres = answers["logits"], answers["boxes"], answers["centres"]
        aims = torch.zeros_like(logits)
        overlap = spread = boxes.new_zeros(())
        for i, target in enumerate(targets):
            objects, classes = target["boxes"], target["labels"] - 1
            scores = logits[i].detach().sigmoid()
            found = self.assign(scores, boxes[i].detach(), centres, objects, classes)
            at, wanted = found.places, objects[found.objects]
            aims[i, at, classes[found.objects]] = found.aims
            overlap = overlap + (complete_box_iou_loss(boxes[i, at], wanted) * found.aims).sum()
            middle, stride = centres[at], answers["strides"][at, None]
            sides = torch.cat([middle - wanted[:, :2], wanted[:, 2:] - middle], 1) / stride
            loss = distribution_focal_loss(
                answers["distances"][i, at].flatten(0, 1), sides.flatten()
            )
            spread = spread + (loss.view(-1, 4).mean(1) * found.aims).sum()
        total = aims.sum().clamp(min=1)
        classification = F.binary_cross_entropy_with_logits(logits, aims, reduction="sum")
        parts = {
            "classification": classification, "bbox_regression": overlap, "distribution": spread,
        }  # fmt: skip
        return {name: _GAINS[name] * part / total for name, part in parts.items()}

    def detections(self, answers: Mapping[str, Any], sizes: Sequence[Size]) -> list[Target]:
        found = []
        for boxes, logits, size in zip(answers["boxes"], answers["logits"], sizes, strict=True):
            best, rows, columns = best_scores(
                logits.sigmoid(), self.score_threshold, self.candidates
            )
            candidates = {"boxes": boxes[rows], "scores": best, "labels": columns + 1}
            found.append(pick(candidates, size, self.nms_threshold, self.max_detections))
        return found


class Head(nn.Module):
    """Two branches on each map: logits of classes, and of the four distances to a box's sides.

    Args:
        channels: of each map.
        classes: without background.
        bins: of a distance.
    """

    def __init__(self, channels: Sequence[int], classes: int, bins: int) -> None:
        super().__init__()
        wide, narrow = max(channels[0], min(classes, 100)), max(16, channels[0] // 4, 4 * bins)
        self.classes = nn.ModuleList(_branch(each, wide, classes) for each in channels)
        self.sides = nn.ModuleList(_branch(each, narrow, 4 * bins) for each in channels)
        self.bins = bins
        for branch in self.classes:
            nn.init.constant_(branch[-1].bias, -math.log((1 - _PRIOR) / _PRIOR))  # type: ignore[index]

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps [N, channels, h, w] to logits [N, A, classes] and distances' [N, A, 4, bins]."""
        classes, sides = (
            torch.cat(
                [
                    by_place(branch(each), branch[-1].out_channels)  # type: ignore[index]
                    for branch, each in zip(branches, maps, strict=True)
                ],
                1,
            )
            for branches in (self.classes, self.sides)
        )
        return classes, sides.unflatten(-1, (4, self.bins))

    def mean(self, distances: Tensor) -> Tensor:
        """The distances [..., 4] in strides that logits [..., 4, bins] mean."""
        whole = torch.arange(self.bins, device=distances.device, dtype=distances.dtype)
        return distances.softmax(-1) @ whole


def _branch(channels: int, inner: int, answers: int) -> nn.Sequential:
    return nn.Sequential(layer(channels, inner), layer(inner, inner), nn.Conv2d(inner, answers, 1))


def _places(maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The middle of each place, [A, 2] x and y in pixels, and its stride [A]."""
    centres, strides = [], []
    for each, stride in zip(maps, _STRIDES, strict=True):
        y, x = ((torch.arange(n, device=each.device) + 0.5) * stride for n in each.shape[2:])
        centres.append(torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1))
        strides.append(torch.full((len(centres[-1]),), float(stride), device=each.device))
    return torch.cat(centres), torch.cat(strides)
