"""The region proposal network: where in an image something may be, whatever it is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation, box_iou

from cvperf import ops
from cvperf.models.detection.anchors import AnchorGenerator
from cvperf.models.detection.coder import BoxCoder
from cvperf.models.detection.detections import by_image, clip_boxes
from cvperf.models.detection.matching import BETWEEN, Matcher, balanced_sample
from cvperf.models.detection.names import Renamed
from cvperf.models.detection.transform import Size, Target

_LEAST_SIDE = 1e-3  # pixels


class RPNHead(Renamed):
    """For each anchor at each place of a level: the logit of an object, and its box.

    Args:
        channels: of the feature maps.
        anchors: at each place.
        depth: 3x3 convolutions before the answers.
    """

    old_names: ClassVar = {"conv.": "conv.0.0."}

    def __init__(self, channels: int, anchors: int, depth: int = 1) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            *(Conv2dNormActivation(channels, channels, norm_layer=None) for _ in range(depth))
        )
        self.cls_logits = nn.Conv2d(channels, anchors, 1)
        self.bbox_pred = nn.Conv2d(channels, anchors * 4, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits [N, A] and box deltas [N, A, 4] of each level, in the order of its anchors."""
        logits, deltas = [], []
        for feature in features:
            hidden = self.conv(feature)
            # Channels-last maps are in this order already.
            logits.append(self.cls_logits(hidden).permute(0, 2, 3, 1).flatten(1))
            moved = self.bbox_pred(hidden).permute(0, 2, 3, 1)
            deltas.append(moved.reshape(len(feature), -1, 4))
        return logits, deltas


class RegionProposals(nn.Module):
    """Proposes boxes in an image, and learns from the objects' boxes which are good.

    Args:
        anchors: from which the proposals are moved.
        head: answers for each of them.
        samples: anchors of an image that a step learns from.
        positive_share: of them, how many may be objects.
        match: an overlap of the first and more is an object, under the second background.
        before_nms: proposals of a level that go into suppression, in training and else.
        after_nms: proposals of an image that come out of it at most, in training and else.
        nms_threshold: overlap above which the weaker proposal of a level goes.

    Source: Ren et al., "Faster R-CNN", NeurIPS 2015.
    """

    def __init__(
        self,
        anchors: AnchorGenerator,
        head: RPNHead,
        *,
        samples: int = 256,
        positive_share: float = 0.5,
        match: tuple[float, float] = (0.7, 0.3),
        before_nms: tuple[int, int] = (2000, 1000),
        after_nms: tuple[int, int] = (2000, 1000),
        nms_threshold: float = 0.7,
    ) -> None:
        super().__init__()
        self.anchors = anchors
        self.head = head
        self.coder = BoxCoder()
        self.matcher = Matcher(*match, allow_low_quality=True)
        self.samples = samples
        self.positive_share = positive_share
        self.before_nms = before_nms
        self.after_nms = after_nms
        self.nms_threshold = nms_threshold

    def forward(
        self,
        image_size: Size,
        features: Sequence[Tensor],
        sizes: Sequence[Size],
        targets: Sequence[Target] | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals, and with targets the losses.

        Args:
            image_size: (height, width) of the batch in pixels.
            features: a map [N, C, h, w] for each level.
            sizes: (height, width) of each image in the batch.
            targets: for each image a dict with ``boxes`` [n, 4].

        Returns:
            ``(proposals, losses)``: [k, 4] corners for each image by descending score, without
            gradient; ``loss_objectness`` and ``loss_rpn_box_reg`` if there are targets.
        """
        anchors = self.anchors(image_size, features)
        logits, deltas = self.head(features)
        proposals = self._propose(anchors, logits, deltas, sizes)
        if targets is None:
            return proposals, {}
        return proposals, self._losses(anchors, torch.cat(logits, 1), torch.cat(deltas, 1), targets)

    @torch.no_grad()
    def _propose(
        self,
        anchors: Tensor,
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        sizes: Sequence[Size],
    ) -> list[Tensor]:
        phase = 0 if self.training else 1
        before, after = self.before_nms[phase], self.after_nms[phase]
        best = [each.topk(min(before, each.shape[1]), dim=1) for each in logits]
        # Only the best are decoded, all images of a level in one go.
        starts = accumulate([0, *(each.shape[1] for each in logits)])
        chosen = torch.cat([b.indices + start for b, start in zip(best, starts, strict=False)], 1)
        moved = [
            each.gather(1, b.indices[..., None].expand(-1, -1, 4))
            for each, b in zip(deltas, best, strict=True)
        ]
        boxes = self.coder.decode(torch.cat(moved, 1), anchors[chosen])
        scores = torch.cat([b.values for b in best], 1).to(boxes.dtype).sigmoid()
        levels = torch.cat([torch.full_like(b.indices[0], i) for i, b in enumerate(best)])
        images = torch.arange(len(sizes), device=boxes.device)[:, None].expand_as(scores)
        boxes = clip_boxes(boxes, sizes, images)
        # NMS of each level of each image by itself, in one call.
        keep = ((boxes[..., 2:] - boxes[..., :2]) >= _LEAST_SIDE).all(-1)
        groups = (images * len(best) + levels)[keep]
        boxes, images = boxes[keep], images[keep]
        kept = ops.batched_nms(boxes, scores[keep], groups, self.nms_threshold)
        return [boxes[each[:after]] for each in by_image(kept, images, len(sizes))]

    def _losses(
        self, anchors: Tensor, logits: Tensor, deltas: Tensor, targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        objects, background, wanted = [], [], []
        for index, target in enumerate(targets):
            matched = self.matcher(box_iou(target["boxes"], anchors))
            labels = torch.where(matched == BETWEEN, -1, (matched >= 0).to(torch.int64))
            positive, negative = balanced_sample(labels, self.samples, self.positive_share)
            goal = target["boxes"][matched[positive]]
            wanted.append(self.coder.encode(goal, anchors[positive]))
            objects.append(positive + index * len(anchors))
            background.append(negative + index * len(anchors))
        chosen = torch.cat([*objects, *background])
        positives = torch.cat(objects)
        goals = torch.zeros(len(chosen), dtype=logits.dtype, device=logits.device)
        goals[: len(positives)] = 1
        moved = deltas.flatten(0, 1)[positives]
        box_loss = F.smooth_l1_loss(moved, torch.cat(wanted), beta=1 / 9, reduction="sum")
        return {
            "loss_objectness": F.binary_cross_entropy_with_logits(logits.flatten()[chosen], goals),
            "loss_rpn_box_reg": box_loss / len(chosen),
        }
