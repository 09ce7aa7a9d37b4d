"""Fast R-CNN: proposals come from elsewhere, and all of an image's share one feature map."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from cvperf import ops
from cvperf.errors import ArgumentError, check_tensor, describe
from cvperf.models.detection.backbone import channels_of, create_backbone
from cvperf.models.detection.box_head import SCALES, BoxPredictor, TwoLayerHead
from cvperf.models.detection.faster_rcnn import BOX_BINS, Options, scale_of
from cvperf.models.detection.roi_heads import RoIHeads
from cvperf.models.detection.selective_search import selective_search
from cvperf.models.detection.transform import (
    Resize,
    Target,
    check_targets,
    resize_boxes,
    size_of,
)


class RememberedSearch:
    """Selective Search that knows the images it has seen, so that only the first epoch is slow.

    Args:
        most: boxes of an image.
        images: remembered at most; then the oldest are forgotten.
    """

    def __init__(self, most: int = 300, images: int = 20_000) -> None:
        self.most = most
        self.images = images
        self._seen: dict[bytes, Tensor] = {}

    def __call__(self, image: Tensor) -> Tensor:
        """Boxes [n, 4] of an image [3, H, W], on the CPU."""
        pixels = image.detach().cpu().contiguous().numpy()
        key = hashlib.blake2b(pixels.tobytes() + str(pixels.shape).encode()).digest()
        if key not in self._seen:
            while len(self._seen) >= self.images:
                del self._seen[next(iter(self._seen))]
            self._seen[key] = selective_search(image, self.most)
        return self._seen[key]


class MapPool(nn.Module):
    """RoI Pool of each box from one feature map.

    Args:
        output_size: bins each way.
        level: which map.
        scale: map pixels a pixel.
    """

    def __init__(self, output_size: int, level: int, scale: float) -> None:
        super().__init__()
        self.output_size = output_size
        self.level = level
        self.scale = scale

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Patches [K, C, bins, bins] of the boxes [n, 4] of all images, in their order."""
        return ops.roi_pool(features[self.level], boxes, self.output_size, self.scale)


class ProposalDetector(nn.Module):
    """A detector whose proposals are given with the call, or else searched for.

    Args:
        transform: makes one batch of the images.
        backbone: a batch to a dict of feature maps.
        roi_heads: what is in the proposals.
        search: an image [3, H, W] to proposals [n, 4]; Selective Search by default.
    """

    def __init__(
        self,
        transform: Resize,
        backbone: nn.Module,
        roi_heads: RoIHeads,
        search: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.transform = transform
        self.backbone = backbone
        self.roi_heads = roi_heads
        self.search = search
        self.to(memory_format=torch.channels_last)

    def forward(
        self,
        images: Sequence[Tensor] | Tensor,
        targets: Sequence[Target] | None = None,
        proposals: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor] | list[Target]:
        """Losses in training, detections in evaluation.

        Args:
            images: float [3, H, W] each, values 0 to 1; or one [N, 3, H, W].
            targets: in training, for each image a dict with ``boxes`` [n, 4] corners in pixels and
                ``labels`` int64 [n] from 1 on.
            proposals: for each image float boxes [k, 4] in its pixels; searched for if not given.

        Returns:
            in training ``loss_classifier`` and ``loss_box_reg``, to be added up. In evaluation for
            each image ``boxes`` [n, 4] in its pixels, ``labels`` [n] and ``scores`` [n] by
            descending score.

        Raises:
            ArgumentError: images, targets or proposals are not such.
            ImportError: there are no proposals, and scikit-image, which finds them, is missing.
        """
        if self.training:
            targets = check_targets(targets, images)
        batch, sizes, resized = self.transform(images, targets if self.training else None)
        if proposals is None:
            proposals = [self.search(image) for image in images]
        _check_proposals(proposals, len(images))
        originals = [size_of(image) for image in images]
        placed = [
            resize_boxes(boxes.to(batch), original, size)
            for boxes, original, size in zip(proposals, originals, sizes, strict=True)
        ]
        features = list(self.backbone(batch).values())
        detections, losses = self.roi_heads(features, placed, sizes, resized)
        return losses if self.training else self.transform.restore(detections, sizes, originals)


def fast_rcnn(
    num_classes: int,
    backbone: str = "small",
    *,
    proposals: int = 300,
    trainable_layers: int = 5,
    norm: str = "batch",
    resize: Options | None = None,
    roi_heads: Options | None = None,
) -> ProposalDetector:
    """Fast R-CNN with random weights: RoI Pool from one map, two full layers, one loss.

    The map is one of a feature pyramid, of stride 16 as the paper's, or 4 for small pictures.

    Args:
        num_classes: with the background.
        backbone: as for :func:`create_backbone`.
        proposals: of an image that Selective Search finds at most, where none are given.
        trainable_layers: stages of the backbone that learn.
        norm: of the backbone, ``"batch"`` or ``"frozen"``.
        resize: options of :class:`Resize`, such as ``min_size``.
        roi_heads: options of :class:`RoIHeads`, such as ``score_threshold``.

    Source: Girshick, "Fast R-CNN", ICCV 2015.
    """
    scale = scale_of(backbone)
    level = 0 if backbone == "small" else 2
    body = create_backbone(backbone, trainable_layers=trainable_layers, norm=norm)
    _keep_level(body, level)
    parts = (
        MapPool(BOX_BINS, level, SCALES[level]),
        TwoLayerHead(channels_of(body) * BOX_BINS**2, scale.width),
        BoxPredictor(scale.width, num_classes),
    )
    return ProposalDetector(
        Resize(**{**scale.resize, **(resize or {})}),
        body,
        RoIHeads(*parts, **{"samples": 64, **(roi_heads or {})}),
        RememberedSearch(proposals),
    )


def _keep_level(backbone: nn.Module, level: int) -> None:
    """Take away what makes the other levels of a pyramid ready, which nothing would train."""
    layers: nn.ModuleList = backbone.get_submodule("fpn.layer_blocks")  # type: ignore[assignment]
    for other in range(len(layers)):
        if other != level:
            layers[other] = nn.Identity()


def _check_proposals(proposals: Sequence[Tensor], images: int) -> None:
    if len(proposals) != images:
        raise ArgumentError(
            f"proposals must be one [k, 4] for each of {images} images, got {len(proposals)}"
        )
    for index, boxes in enumerate(proposals):
        name = f"proposals[{index}]"
        check_tensor(name, boxes, "boxes[k, 4]", ndim=2)
        if boxes.shape[1] != 4 or not boxes.is_floating_point():
            raise ArgumentError(f"{name} must be float boxes[k, 4], got {describe(boxes)}")
