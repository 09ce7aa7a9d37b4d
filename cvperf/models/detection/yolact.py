"""YOLACT: masks as sums of an image's prototypes, with weights that a detector's head answers.

Sources: Bolya et al., "YOLACT: Real-time Instance Segmentation", ICCV 2019; its anchors: the same,
"YOLACT++", TPAMI 2020. Boxes are dropped by exact NMS, not by the approximate one of the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import Conv2dNormActivation

from cvperf.models.detection.anchors import AnchorGenerator
from cvperf.models.detection.backbone import channels_of
from cvperf.models.detection.coder import BoxCoder
from cvperf.models.detection.losses import cropped_mask_loss, inside
from cvperf.models.detection.matching import Matcher
from cvperf.models.detection.one_stage import (
    OneStage,
    anchors_a_place,
    best_of_each_class,
    by_place,
    octaves,
    pick,
    pyramid,
)
from cvperf.models.detection.ssd import match_every_object, multibox_losses
from cvperf.models.detection.transform import Resize, Size, Target

_STRIDE = 4
"""Pixels of the batch from place to place of a prototype: twice as fine as the finest map."""
_GAINS = {"classification": 1.0, "bbox_regression": 1.5, "mask": 6.125, "segmentation": 1.0}


class YOLACT(OneStage):
    """Boxes by one head on all maps, and masks from prototypes of the finest.

    In evaluation each image's dict has ``masks`` too: float32 [n, 1, H, W], probabilities, 0
    outside the box. Targets have ``masks`` [n, H, W].

    Losses: ``classification``, ``bbox_regression``, ``mask``, and ``segmentation`` of the finest
    map, which no detection needs.

    Args:
        num_classes: with the background.
        backbone: ``"small"``, or a residual network of torchvision.
        prototypes: how many.
        anchors: sizes for each level, in pixels; by default three an octave, as YOLACT++ has.
        ratios: of anchors, height over width, for all levels or for each.
        resize: options of :class:`Resize`; by default ``"small"`` leaves images as they are, others
            make the shorter side 550 pixels.
        masks_learnt: of an image at most, drawn among the anchors that have an object.
        trainable_layers: of a residual network, from the last.
        norm: of a residual network, ``"batch"`` or ``"frozen"``.
        score_threshold: that a detection's score is above.
        nms_threshold: overlap above which the worse of two boxes of a class is dropped.
        max_detections: of an image.
        candidates: of each class, before boxes are dropped for their overlap.
    """

    learns_masks = True

    def __init__(
        self,
        num_classes: int,
        backbone: str = "small",
        *,
        prototypes: int = 32,
        anchors: Sequence[Sequence[float]] | None = None,
        ratios: Sequence[Sequence[float]] | Sequence[float] = (0.5, 1.0, 2.0),
        resize: Mapping[str, Any] | None = None,
        masks_learnt: int = 100,
        trainable_layers: int = 5,
        norm: str = "batch",
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        max_detections: int = 100,
        candidates: int = 200,
    ) -> None:
        super().__init__()
        small = backbone == "small"
        self.transform = Resize(**{"min_size": None if small else 550, **(resize or {})})
        self.backbone = pyramid(backbone, trainable_layers, norm)
        sizes = anchors or octaves(24, 4 if small else 5)
        self.anchor_generator = AnchorGenerator(sizes, ratios)
        channels = channels_of(self.backbone)
        at_each = anchors_a_place(self.anchor_generator)
        self.head = Head(channels, at_each, num_classes, prototypes)
        self.prototypes = Prototypes(channels, prototypes)
        self.segmentation = nn.Conv2d(channels, num_classes - 1, 1)
        self.coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
        self.matcher = Matcher(0.5, 0.4)
        self.masks_learnt = masks_learnt
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.max_detections = max_detections
        self.candidates = candidates
        self.to(memory_format=torch.channels_last)

    def answer(self, batch: Tensor) -> dict[str, Any]:
        maps = list(self.backbone(batch).values())
        logits, deltas, coefficients = self.head(maps)
        anchors = self.anchor_generator((batch.shape[2], batch.shape[3]), maps)
        answers = {"logits": logits, "deltas": deltas, "anchors": anchors}
        answers.update(coefficients=coefficients, prototypes=self.prototypes(maps[0]))
        if self.training:
            answers["segmentation"] = self.segmentation(maps[0])
        return answers

    def losses(self, answers: Mapping[str, Any], targets: Sequence[Target]) -> dict[str, Tensor]:
        anchors = answers["anchors"]
        matches = [match_every_object(self.matcher, each["boxes"], anchors) for each in targets]
        parts = multibox_losses(answers, targets, matches, self.coder)
        masks = answers["prototypes"].sum() * 0
        learnt = 0
        for i, (target, matched) in enumerate(zip(targets, matches, strict=True)):
            chosen = torch.where(matched >= 0)[0]
            if len(chosen) > self.masks_learnt:
                order = torch.randperm(len(chosen), device=chosen.device)
                chosen = chosen[order[: self.masks_learnt]]
            objects, learnt = matched[chosen], learnt + len(chosen)
            prototypes = answers["prototypes"][i]
            logits = assemble(answers["coefficients"][i][chosen], prototypes)
            wanted = shrink(target["masks"], prototypes.shape[1:], _STRIDE)[objects]
            boxes = target["boxes"][objects] / _STRIDE
            masks = masks + cropped_mask_loss(logits, wanted, boxes).sum()
        parts["mask"] = masks / max(1, learnt)
        parts["segmentation"] = _segmentation_loss(answers["segmentation"], targets)
        return {name: _GAINS[name] * part for name, part in parts.items()}

    def detections(self, answers: Mapping[str, Any], sizes: Sequence[Size]) -> list[Target]:
        found = []
        boxes = self.coder.decode(answers["deltas"], answers["anchors"])
        scores = answers["logits"].softmax(-1)[..., 1:]
        for i, size in enumerate(sizes):
            best, rows, columns = best_of_each_class(
                scores[i], self.score_threshold, self.candidates
            )
            candidates = {"boxes": boxes[i][rows], "scores": best, "labels": columns + 1}
            candidates["masks"] = answers["coefficients"][i][rows]
            kept = pick(candidates, size, self.nms_threshold, self.max_detections)
            kept["masks"] = assemble(kept["masks"], answers["prototypes"][i]).sigmoid()
            found.append(kept)
        return found

    def restore(
        self, found: Sequence[Target], sizes: Sequence[Size], originals: Sequence[Size]
    ) -> list[Target]:
        # Masks cover the whole batch, not their boxes, which the transform would paste them into.
        boxes = [{key: each[key] for key in each if key != "masks"} for each in found]
        restored = super().restore(boxes, sizes, originals)
        for each, before, size, original in zip(restored, found, sizes, originals, strict=True):
            masks = enlarge(before["masks"], _STRIDE, size, original)
            each["masks"] = (masks * inside(each["boxes"], original))[:, None]
        return restored


class Head(nn.Module):
    """Class logits, box deltas and coefficients of all anchors, the same on every level."""

    def __init__(self, channels: int, anchors: int, num_classes: int, prototypes: int) -> None:
        super().__init__()
        self.shared = Conv2dNormActivation(channels, channels, norm_layer=None)
        self.columns = (num_classes, 4, prototypes)
        self.layers = nn.ModuleList(
            nn.Conv2d(channels, anchors * columns, 3, padding=1) for columns in self.columns
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Maps [N, channels, h, w] to [N, A, num_classes], [N, A, 4] and [N, A, prototypes]."""
        shared = [self.shared(each) for each in maps]
        logits, deltas, coefficients = (
            torch.cat([by_place(layer(each), columns) for each in shared], 1)
            for layer, columns in zip(self.layers, self.columns, strict=True)
        )
        return logits, deltas, coefficients.tanh()


class Prototypes(nn.Sequential):
    """The finest map [N, channels, h, w] to prototypes [N, count, 2 * h, 2 * w], 0 or more."""

    def __init__(self, channels: int, count: int) -> None:
        layers = [Conv2dNormActivation(channels, channels, norm_layer=None) for _ in range(4)]
        finer = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        last = (nn.Conv2d(channels, count, 1), nn.ReLU(inplace=True))
        super().__init__(*layers[:3], finer, layers[3], *last)


def assemble(coefficients: Tensor, prototypes: Tensor) -> Tensor:
    """Logits [n, h, w] of masks: prototypes [k, h, w] times coefficients [n, k], summed."""
    return torch.einsum("nk,khw->nhw", coefficients, prototypes)


def shrink(masks: Tensor, size: Sequence[int], stride: int) -> Tensor:
    """Masks as the share of each place that they cover.

    Args:
        masks: [n, H, W] of 0 and 1.
        size: (h, w); the masks are 0 beyond their own H and W, up to ``stride`` times this.
        stride: pixels from place to place.

    Returns:
        float32 [n, h, w].
    """
    height, width = (side * stride for side in size)
    padding = (0, width - masks.shape[2], 0, height - masks.shape[1])
    return F.avg_pool2d(F.pad(masks.float(), padding)[:, None], stride)[:, 0]


def enlarge(masks: Tensor, stride: int, size: Size, original: Size) -> Tensor:
    """Masks of a batch's places in the pixels of an image as it was given.

    Args:
        masks: float [n, h, w], over the whole batch.
        stride: pixels of the batch from place to place.
        size: (height, width) of the image in the batch.
        original: that of the image as given.

    Returns:
        float [n, *original].
    """
    if not len(masks):
        return masks.new_empty(0, *original)
    fine = F.interpolate(masks[:, None], scale_factor=stride, mode="bilinear")
    fine = fine[:, :, : size[0], : size[1]]
    return (F.interpolate(fine, original, mode="bilinear") if size != original else fine)[:, 0]


def _segmentation_loss(logits: Tensor, targets: Sequence[Target]) -> Tensor:
    """Binary cross-entropy of each class [N, classes, h, w] with where its objects are."""
    wanted = torch.zeros_like(logits)
    for of_image, target in zip(wanted, targets, strict=True):
        masks = shrink(target["masks"], logits.shape[2:], 2 * _STRIDE)
        for mask, label in zip(masks, target["labels"].tolist(), strict=True):
            of_image[label - 1] = torch.maximum(of_image[label - 1], mask)
    return F.binary_cross_entropy_with_logits(logits, wanted)
