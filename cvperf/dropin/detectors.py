"""Parts of torchvision's detectors that are Python and no operators, on our kernels."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from cvperf.dropin.mask_heads import with_masks_of_class
from cvperf.dropin.single_shot import retinanet, ssd
from cvperf.ops.multiscale_roi_align import multiscale_roi_align
from cvperf.ops.paste_masks import paste_masks


def with_our_kernels(module: nn.Module) -> nn.Module:
    """torchvision's ``SSD``, ``MultiScaleRoIAlign`` and ``GeneralizedRCNNTransform`` without their
    loops over classes, levels and masks, its ``RoIHeads`` without the masks of other classes, and
    its ``RetinaNet`` with one search for scores. Images are channels-last from the first layer on.

    Returns:
        A copy that shares everything with ``module``; ``module`` itself if it is another class.
    """
    kind = (type(module).__module__, type(module).__name__)
    if kind == ("torchvision.models.detection.roi_heads", "RoIHeads"):
        return with_masks_of_class(module)
    make = {
        ("torchvision.models.detection.ssd", "SSD"): ssd,
        ("torchvision.models.detection.retinanet", "RetinaNet"): retinanet,
        ("torchvision.ops.poolers", "MultiScaleRoIAlign"): _pooler,
        ("torchvision.models.detection.transform", "GeneralizedRCNNTransform"): _transform,
    }.get(kind)
    if make is None:
        return module
    twin = copy.copy(module)
    twin.__class__ = make(type(module))
    return twin


def _pooler(original: Any) -> Any:
    """torchvision's calls roi_align for each level and gathers the answers."""

    class MultiScaleRoIAlign(original):  # type: ignore[misc]
        def forward(
            self,
            x: Mapping[str, Tensor],
            boxes: Sequence[Tensor],
            image_shapes: Sequence[tuple[int, int]],
        ) -> Tensor:
            if self.scales is None or not _halves(self.scales):
                pooled: Tensor = super().forward(x, boxes, image_shapes)  # finds the scales
                return pooled
            return multiscale_roi_align(
                [x[name] for name in x if name in self.featmap_names],
                boxes,
                self.output_size,
                self.scales,
                self.sampling_ratio,
                canonical_scale=self.canonical_scale,
                canonical_level=self.canonical_level,
            )

    return MultiScaleRoIAlign


def _halves(scales: Sequence[float]) -> bool:
    """Whether each level is half of the one before, as ours wants it. torchvision's MobileNetV3 has
    two of one size."""
    return all(fine == 2 * coarse for fine, coarse in pairwise(scales))


def _transform(original: Any) -> Any:
    """torchvision's resizes each mask by itself, writes it into an image of its own and copies all
    of them once more; and its batches are contiguous, so that each part of the model that is a plan
    by itself would put its images in the one order and back."""

    class GeneralizedRCNNTransform(original):  # type: ignore[misc]
        def batch_images(self, images: list[Tensor], size_divisible: int = 32) -> Tensor:
            batch: Tensor = super().batch_images(images, size_divisible)
            return batch.contiguous(memory_format=torch.channels_last)

        def postprocess(
            self,
            result: list[dict[str, Tensor]],
            image_shapes: list[tuple[int, int]],
            original_image_sizes: list[tuple[int, int]],
        ) -> list[dict[str, Tensor]]:
            masks = [each.pop("masks", None) for each in result]
            result = super().postprocess(result, image_shapes, original_image_sizes)
            for found, mask, size in zip(result, masks, original_image_sizes, strict=True):
                if mask is not None:
                    found["masks"] = paste_masks(mask, found["boxes"], size, threshold=None)
            return result

    return GeneralizedRCNNTransform
