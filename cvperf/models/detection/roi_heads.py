"""What a proposal is, where exactly, and which of its pixels: the second stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_iou

from cvperf import ops
from cvperf.errors import ArgumentError, describe
from cvperf.models.detection.coder import BoxCoder
from cvperf.models.detection.detections import select_detections
from cvperf.models.detection.matching import BETWEEN, Matcher, balanced_sample
from cvperf.models.detection.transform import Size, Target


@dataclass(frozen=True)
class Sample:
    """The proposals of an image that a step learns from.

    Args:
        boxes: [k, 4].
        labels: int64 [k], 0 for background.
        objects: int64 [k], which of the image's objects a proposal is of; less than 0 for none.
        truth: [n, 4], the objects' boxes.
        weights: [k], how much a proposal's class counts; None: all alike.
    """

    boxes: Tensor
    labels: Tensor
    objects: Tensor
    truth: Tensor
    weights: Tensor | None = None

    def pairs(self) -> tuple[Tensor, Tensor]:
        """The objects' boxes and the proposals' for what is not background: [p, 4] each."""
        positive = self.labels > 0
        return self.truth[self.objects[positive]], self.boxes[positive]


class RoIHeads(nn.Module):
    """Classifies proposals and moves their boxes; with a mask head, also marks their pixels.

    Args:
        box_pool: ``(features, boxes)`` to patches.
        box_head: patches to vectors.
        box_predictor: vectors to class logits [K, C] and box deltas [K, C, 4].
        mask_pool: patches for the mask head; None for no masks.
        mask_head: patches to maps.
        mask_predictor: maps and classes [K] to mask logits [K, M, M].
        samples: proposals of an image that a step learns from.
        positive_share: of them, how many may be objects.
        match: an overlap of the first and more is an object, under the second background.
        score_threshold: what a detection's score must be above.
        nms_threshold: overlap above which the weaker detection of a class goes.
        max_detections: of an image.
        soft_sigma: where given, overlap does not drop a detection of a class but lowers its score
            by ``exp(-iou ** 2 / soft_sigma)`` (Soft-NMS): what lies behind another is kept.
        hidden_weight: the class loss of a proposal counts ``1 + hidden_weight * (1 - visible)``
            times, where targets say by ``visible`` [n] which share of an object is seen.

    Source: Girshick, "Fast R-CNN", ICCV 2015; He et al., "Mask R-CNN", ICCV 2017.
    """

    def __init__(
        self,
        box_pool: nn.Module,
        box_head: nn.Module,
        box_predictor: nn.Module,
        mask_pool: nn.Module | None = None,
        mask_head: nn.Module | None = None,
        mask_predictor: nn.Module | None = None,
        *,
        samples: int = 512,
        positive_share: float = 0.25,
        match: tuple[float, float] = (0.5, 0.5),
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        max_detections: int = 100,
        soft_sigma: float | None = None,
        hidden_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.box_pool = box_pool
        self.box_head = box_head
        self.box_predictor = box_predictor
        self.mask_pool = mask_pool
        self.mask_head = mask_head
        self.mask_predictor = mask_predictor
        self.coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
        self.matcher = Matcher(*match)
        self.samples = samples
        self.positive_share = positive_share
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.max_detections = max_detections
        self.soft_sigma = soft_sigma
        self.hidden_weight = hidden_weight

    @property
    def has_masks(self) -> bool:
        return self.mask_head is not None

    def forward(
        self,
        features: Sequence[Tensor],
        proposals: Sequence[Tensor],
        sizes: Sequence[Size],
        targets: Sequence[Target] | None = None,
    ) -> tuple[list[Target], dict[str, Tensor]]:
        """Detections, or with targets the losses.

        Args:
            features: a map [N, C, h, w] for each level.
            proposals: [k, 4] corners in pixels of the batch for each image.
            sizes: (height, width) of each image in the batch.
            targets: for each image a dict with ``boxes``, ``labels`` and maybe ``masks``.

        Returns:
            ``(detections, losses)``, of which one is empty. Detections have ``boxes``, ``labels``,
            ``scores`` and maybe ``masks`` [n, 1, M, M], probabilities within the boxes.
        """
        if targets is not None:
            return [], self._losses(features, proposals, targets)
        logits, deltas = self._boxes(features, proposals)
        detections = self._detect(logits, deltas, proposals, sizes)
        if self.has_masks:
            self._add_masks(features, detections)
        return detections, {}

    def _boxes(
        self, features: Sequence[Tensor], proposals: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        return self.box_predictor(self.box_head(self.box_pool(features, proposals)))

    def _masks(self, features: Sequence[Tensor], boxes: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Mask logits [K, M, M] of boxes that are of the classes ``labels`` [K]."""
        patches = self.mask_pool(features, boxes)  # type: ignore[misc]
        return self.mask_predictor(self.mask_head(patches), labels)  # type: ignore[misc]

    def _detect(
        self, logits: Tensor, deltas: Tensor, proposals: Sequence[Tensor], sizes: Sequence[Size]
    ) -> list[Target]:
        anchors = torch.cat(list(proposals))
        counts = torch.tensor([len(each) for each in proposals], device=logits.device)
        images = torch.arange(len(proposals), device=logits.device).repeat_interleave(counts)

        def boxes_of(rows: Tensor, classes: Tensor) -> Tensor:
            return self.coder.decode(deltas[rows, classes + 1], anchors[rows])

        return select_detections(
            logits.softmax(1)[:, 1:],
            boxes_of,
            images,
            sizes,
            score_threshold=self.score_threshold,
            nms_threshold=self.nms_threshold,
            max_detections=self.max_detections,
            soft_sigma=self.soft_sigma,
        )

    def _add_masks(self, features: Sequence[Tensor], detections: Sequence[Target]) -> None:
        labels = torch.cat([each["labels"] for each in detections])
        logits = self._masks(features, [each["boxes"] for each in detections], labels)
        masks = logits.to(detections[0]["boxes"].dtype).sigmoid()[:, None]
        counts = [len(each["labels"]) for each in detections]
        for found, own in zip(detections, masks.split(counts), strict=True):
            found["masks"] = own

    def _losses(
        self, features: Sequence[Tensor], proposals: Sequence[Tensor], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        pairs = zip(proposals, targets, strict=True)
        samples = [self._draw(proposal, target) for proposal, target in pairs]
        logits, deltas = self._boxes(features, [each.boxes for each in samples])
        losses = self._box_losses(logits, deltas, samples)
        if self.has_masks:
            losses["loss_mask"] = self._mask_loss(features, samples, targets)
        return losses

    @torch.no_grad()
    def _draw(self, proposals: Tensor, target: Target) -> Sample:
        """The proposals of an image to learn from.

        The objects' own boxes are among them, so that there is something to learn from at first.
        """
        truth = target["boxes"].to(proposals.dtype)
        proposals = torch.cat([proposals, truth])
        matched = self.matcher(box_iou(truth, proposals))
        labels, positive = torch.where(matched == BETWEEN, -1, 0), matched >= 0
        labels[positive] = target["labels"][matched[positive]]
        chosen = torch.cat(balanced_sample(labels, self.samples, self.positive_share))
        chosen = chosen.sort().values
        labels, matched = labels[chosen], matched[chosen]
        weights = self._weights(labels, matched, target) if self.hidden_weight else None
        return Sample(proposals[chosen], labels, matched, truth, weights)

    def _weights(self, labels: Tensor, objects: Tensor, target: Target) -> Tensor:
        """By how much each proposal's class counts: [k]."""
        if "visible" not in target or len(target["visible"]) != len(target["labels"]):
            raise ArgumentError(
                "hidden_weight needs targets with visible [n], the share that is seen of each of "
                f"their boxes; one has {', '.join(f'{k} {describe(v)}' for k, v in target.items())}"
                ". Transforms that drop boxes, as sanitize_boxes, leave it as it was"
            )
        weights = torch.ones_like(labels, dtype=target["visible"].dtype)
        positive = labels > 0
        weights[positive] += self.hidden_weight * (1 - target["visible"][objects[positive]])
        return weights

    def _box_losses(
        self, logits: Tensor, deltas: Tensor, samples: Sequence[Sample]
    ) -> dict[str, Tensor]:
        labels = torch.cat([each.labels for each in samples])
        if not len(labels):  # the mean of nothing is not a number
            return {"loss_classifier": logits.sum() * 0, "loss_box_reg": deltas.sum() * 0}
        positive = torch.nonzero(labels > 0).squeeze(1)
        moved = deltas[positive, labels[positive]]
        wanted = torch.cat([self.coder.encode(*each.pairs()) for each in samples])
        box_loss = F.smooth_l1_loss(moved, wanted, beta=1 / 9, reduction="sum")
        weights = [each.weights for each in samples if each.weights is not None]
        return {
            "loss_classifier": _cross_entropy(
                logits, labels, torch.cat(weights) if weights else None
            ),
            "loss_box_reg": box_loss / len(labels),
        }

    def _mask_loss(
        self, features: Sequence[Tensor], samples: Sequence[Sample], targets: Sequence[Target]
    ) -> Tensor:
        positive = [each.labels > 0 for each in samples]
        drawn = list(zip(samples, positive, strict=True))
        labels = torch.cat([each.labels[keep] for each, keep in drawn])
        logits = self._masks(features, [each.boxes[keep] for each, keep in drawn], labels)
        if not len(labels):
            return logits.sum() * 0
        wanted = [
            _crop(target["masks"], each.boxes[keep], each.objects[keep], logits.shape[-1])
            for target, (each, keep) in zip(targets, drawn, strict=True)
        ]
        return F.binary_cross_entropy_with_logits(logits, torch.cat(wanted))


def _cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """The mean over rows, weighted where there are weights [rows]."""
    if weights is None:
        return F.cross_entropy(logits, labels)
    return (F.cross_entropy(logits, labels, reduction="none") * weights).sum() / weights.sum()


def _crop(masks: Tensor, boxes: Tensor, objects: Tensor, side: int) -> Tensor:
    """The masks [n, H, W] of the objects [k] within the boxes [k, 4]: [k, side, side]."""
    rois = torch.cat([objects[:, None].to(boxes.dtype), boxes], dim=1)
    return ops.roi_align(masks[:, None].to(boxes.dtype), rois, side)[:, 0]
