"""Faster R-CNN on a feature pyramid, and what the models built on it share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cvperf.errors import ArgumentError
from cvperf.models.detection.anchors import AnchorGenerator
from cvperf.models.detection.backbone import channels_of, create_backbone
from cvperf.models.detection.box_head import (
    BoxPredictor,
    ConvHead,
    PartHead,
    PyramidPool,
    TwoLayerHead,
)
from cvperf.models.detection.roi_heads import RoIHeads
from cvperf.models.detection.rpn import RegionProposals, RPNHead
from cvperf.models.detection.transform import Resize, Target, check_targets, size_of

Options = Mapping[str, Any]

BOX_BINS = 7


class FasterRCNN(nn.Module):
    """A detector in two stages: proposals of the whole image, then a closer look at each.

    Args:
        transform: makes one batch of the images.
        backbone: a batch to a dict of feature maps.
        rpn: proposes boxes.
        roi_heads: what is in them; with a mask head this is Mask R-CNN.
    """

    def __init__(
        self, transform: Resize, backbone: nn.Module, rpn: RegionProposals, roi_heads: RoIHeads
    ) -> None:
        super().__init__()
        self.transform = transform
        self.backbone = backbone
        self.rpn = rpn
        self.roi_heads = roi_heads
        self.to(memory_format=torch.channels_last)

    def forward(
        self, images: Sequence[Tensor] | Tensor, targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[Target]:
        """Losses in training, detections in evaluation.

        Args:
            images: float [3, H, W] each, values 0 to 1; or one [N, 3, H, W].
            targets: in training, for each image a dict with ``boxes`` [n, 4] corners in pixels,
                ``labels`` int64 [n] from 1 on, and ``masks`` [n, H, W] where masks are learnt.

        Returns:
            in training ``loss_classifier``, ``loss_box_reg``, ``loss_objectness``,
            ``loss_rpn_box_reg`` and maybe ``loss_mask``, each to be added up. In evaluation for
            each image ``boxes`` [n, 4] in its pixels, ``labels`` [n], ``scores`` [n] by descending
            score and maybe ``masks`` [n, 1, H, W], probabilities.

        Raises:
            ArgumentError: images or targets are not such.
        """
        if self.training:
            targets = check_targets(targets, images, masks=self.roi_heads.has_masks)
        batch, sizes, resized = self.transform(images, targets if self.training else None)
        features = list(self.backbone(batch).values())
        image_size = (batch.shape[2], batch.shape[3])
        proposals, rpn_losses = self.rpn(image_size, features, sizes, resized)
        detections, losses = self.roi_heads(features, proposals, sizes, resized)
        if self.training:
            return {**losses, **rpn_losses}
        return self.transform.restore(detections, sizes, [size_of(image) for image in images])


@dataclass(frozen=True)
class Scale:
    """What goes with the size of the pictures that a backbone is for.

    Args:
        anchors: sizes for each of five levels.
        canonical_scale: side of a box that is pooled from the level of stride 16.
        width: of the full layers on a proposal.
        resize: options of :class:`Resize`.
        rpn: options of :class:`RegionProposals`.
        roi_heads: options of :class:`RoIHeads`.
    """

    anchors: Sequence[Sequence[float]] = ((32,), (64,), (128,), (256,), (512,))
    canonical_scale: float = 224
    width: int = 1024
    resize: Options = field(default_factory=dict)
    rpn: Options = field(default_factory=dict)
    roi_heads: Options = field(default_factory=dict)


_SMALL = Scale(
    anchors=tuple((side, side * 2**0.5) for side in (16, 32, 64, 128, 256)),
    canonical_scale=112,
    width=256,
    resize={"min_size": None},
    rpn={"before_nms": (500, 300), "after_nms": (300, 150), "samples": 128},
    roi_heads={"samples": 64, "positive_share": 0.5},
)


def scale_of(backbone: str) -> Scale:
    """The defaults for a backbone: torchvision's, or those for small pictures."""
    return _SMALL if backbone == "small" else Scale()


def region_proposals(
    channels: int,
    scale: Scale,
    depth: int = 1,
    anchors: Sequence[Sequence[float]] | None = None,
    options: Options | None = None,
) -> RegionProposals:
    """The first stage for a pyramid of that many channels; ``depth`` is of its head."""
    generator = AnchorGenerator(anchors or scale.anchors)
    head = RPNHead(channels, generator.counts()[0], depth)
    return RegionProposals(generator, head, **{**scale.rpn, **(options or {})})


def faster_rcnn(
    num_classes: int,
    backbone: str = "small",
    *,
    version: int = 1,
    trainable_layers: int = 5,
    norm: str = "batch",
    box_head: str = "",
    anchors: Sequence[Sequence[float]] | None = None,
    resize: Options | None = None,
    rpn: Options | None = None,
    roi_heads: Options | None = None,
) -> FasterRCNN:
    """Faster R-CNN with random weights, with torchvision's names for its parameters.

    Args:
        num_classes: with the background.
        backbone: as for :func:`create_backbone`.
        version: 1 is torchvision's ``fasterrcnn_resnet50_fpn``, 2 its ``_v2``: batch norm in the
            pyramid, a deeper head of proposals, convolutions in the head of boxes.
        trainable_layers: stages of the backbone that learn.
        norm: of the backbone, ``"batch"`` or ``"frozen"``.
        box_head: ``"layers"``, ``"convolutions"`` or, for objects that others hide, ``"parts"``
            (:class:`PartHead`); by default that of the version.
        anchors: their sizes for each of five levels, in pixels.
        resize: options of :class:`Resize`, such as ``min_size``.
        rpn: options of :class:`RegionProposals`, such as ``after_nms``.
        roi_heads: options of :class:`RoIHeads`, such as ``score_threshold``.

    Source: Ren et al., "Faster R-CNN", NeurIPS 2015; Lin et al., "Feature Pyramid Networks", 2017.
    """
    scale = scale_of(backbone)
    fpn_norm = nn.BatchNorm2d if version == 2 else None
    body = create_backbone(
        backbone, trainable_layers=trainable_layers, norm=norm, fpn_norm=fpn_norm
    )
    channels = channels_of(body)
    boxes = box_parts(channels, num_classes, scale, version, box_head)
    return FasterRCNN(
        Resize(**{**scale.resize, **(resize or {})}),
        body,
        region_proposals(channels, scale, version, anchors, rpn),
        RoIHeads(*boxes, **{**scale.roi_heads, **(roi_heads or {})}),
    )


_BOX_HEADS: Mapping[str, Callable[[int, int], nn.Module]] = {
    "layers": lambda channels, width: TwoLayerHead(channels * BOX_BINS**2, width),
    "convolutions": lambda channels, width: ConvHead(channels, BOX_BINS, width),
    "parts": lambda channels, width: PartHead(channels, BOX_BINS, width),
}


def box_parts(
    channels: int, num_classes: int, scale: Scale, version: int, box_head: str = ""
) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Pool, head and predictor of boxes."""
    kind = box_head or ("convolutions" if version == 2 else "layers")
    if kind not in _BOX_HEADS:
        raise ArgumentError(f"box_head must be one of {', '.join(_BOX_HEADS)}; got {box_head!r}")
    head = _BOX_HEADS[kind](channels, scale.width)
    pool = PyramidPool(BOX_BINS, scale.canonical_scale)
    return pool, head, BoxPredictor(scale.width, num_classes)
