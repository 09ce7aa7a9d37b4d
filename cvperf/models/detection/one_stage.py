"""What the one-stage detectors share: the way of a call, dense answers, and the choice of boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from cvperf.errors import ArgumentError
from cvperf.models.detection.anchors import AnchorGenerator
from cvperf.models.detection.backbone import resnet_fpn, small_fpn
from cvperf.models.detection.transform import Resize, Size, Target, check_targets
from cvperf.ops import batched_nms


class OneStage(nn.Module):
    """A detector that answers for every place of its maps at once.

    ``model(images, targets)`` in training gives a dict of losses; ``model(images)`` in evaluation
    gives a dict for each image: ``boxes`` float32 [n, 4], corners in pixels of that image,
    ``labels`` int64 [n] from 1 on, and ``scores`` float32 [n], falling.

    A subclass sets ``transform`` and has :meth:`answer`, :meth:`losses` and :meth:`detections`.
    """

    transform: Resize
    learns_masks = False

    def forward(
        self, images: Sequence[Tensor] | Tensor, targets: Sequence[Target] | None = None
    ) -> Any:
        wanted = check_targets(targets, images, self.learns_masks) if self.training else None
        originals = [(image.shape[-2], image.shape[-1]) for image in images]
        batch, sizes, wanted = self.transform(images, wanted)
        answers = self.answer(batch)
        if wanted is not None:
            return self.losses(answers, wanted)
        return self.restore(self.detections(answers, sizes), sizes, originals)

    def answer(self, batch: Tensor) -> dict[str, Any]:
        """What the network says of a batch [N, 3, H, W], by name."""
        raise NotImplementedError

    def losses(self, answers: Mapping[str, Any], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Each part of the loss, float []."""
        raise NotImplementedError

    def detections(self, answers: Mapping[str, Any], sizes: Sequence[Size]) -> list[Target]:
        """What is found in each image, in pixels of the batch."""
        raise NotImplementedError

    def restore(
        self, found: Sequence[Target], sizes: Sequence[Size], originals: Sequence[Size]
    ) -> list[Target]:
        """What is found, in pixels of the images as they were given."""
        return self.transform.restore(found, sizes, originals)


def by_place(answers: Tensor, columns: int) -> Tensor:
    """A convolution's answers [N, K * columns, H, W] by anchor: [N, H * W * K, columns].

    Rows, columns and the K anchors of a place follow each other as ``AnchorGenerator`` lays them.
    """
    return answers.unflatten(1, (-1, columns)).permute(0, 3, 4, 1, 2).flatten(1, 3)


def pyramid(backbone: str, trainable_layers: int, norm: str) -> nn.Module:
    """A backbone to maps of strides 8 to 128, or to 64 for ``"small"``."""
    levels = (1, 2, 3)
    if backbone == "small":
        # Twice the usual channels: a place of a map is all that tells the class.
        return small_fpn(out=64, levels=levels)
    extra = LastLevelP6P7(256, 256)
    return resnet_fpn(backbone, trainable_layers, extra, norm, levels=levels)


def octaves(smallest: float, levels: int) -> list[tuple[int, ...]]:
    """Three anchor sizes a level, a third of an octave apart, in whole pixels."""
    steps = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
    return [tuple(int(smallest * 2**level * step) for step in steps) for level in range(levels)]


def anchors_a_place(generator: AnchorGenerator) -> int:
    """At each place of every level, where one head answers for all.

    Raises:
        ArgumentError: levels differ.
    """
    counts = generator.counts()
    if len(set(counts)) != 1:
        raise ArgumentError(
            "anchors and ratios must make as many anchors on each level, because one "
            f"head answers for all; got {counts}"
        )
    return counts[0]


def best_scores(scores: Tensor, threshold: float, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """The highest of scores [A, C] that are above a threshold, whatever their row and column.

    Args:
        scores: float [A, C].
        threshold: a score has to be above it.
        most: how many are wanted.

    Returns:
        ``(scores, rows, columns)``: float [k], falling, and int64 [k] twice.
    """
    flat = scores.flatten()
    above = torch.where(flat > threshold)[0]
    best, order = flat[above].topk(min(most, len(above)))
    index = above[order]
    return best, index // scores.shape[1], index % scores.shape[1]


def best_of_each_class(
    scores: Tensor, threshold: float, most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`best_scores`, but as many of each column, which follow each other."""
    best, rows = scores.topk(min(most, len(scores)), dim=0)
    columns, place = torch.where((best > threshold).T)
    return best[place, columns], rows[place, columns], columns


def pick(found: Target, size: Size, iou_threshold: float, most: int) -> Target:
    """Of the candidates of an image those that no better one of their class overlaps.

    Args:
        found: ``boxes`` [n, 4], ``labels`` [n], ``scores`` [n], and anything else of n rows.
        size: (height, width) that boxes are clipped to.
        iou_threshold: an overlap above it drops the lower score.
        most: how many are wanted.
    """
    boxes = clip_boxes_to_image(found["boxes"], size)
    kept = batched_nms(boxes, found["scores"], found["labels"], iou_threshold)[:most]
    return {name: values[kept] for name, values in {**found, "boxes": boxes}.items()}
