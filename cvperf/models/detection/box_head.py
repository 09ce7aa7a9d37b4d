"""From a proposal to what it is and where: patches of the maps, and the layers on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from cvperf import ops

SCALES = (1 / 4, 1 / 8, 1 / 16, 1 / 32)


class PyramidPool(nn.Module):
    """RoI Align of each box from the level that fits its size.

    Args:
        output_size: bins each way.
        canonical_scale: side of a box, in pixels, that belongs on the level of stride 16.
        scales: map pixels a pixel for the levels, the first of the pyramid.
    """

    def __init__(
        self,
        output_size: int,
        canonical_scale: float = 224,
        scales: Sequence[float] = SCALES,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.canonical_scale = canonical_scale
        self.scales = tuple(scales)

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Patches [K, C, bins, bins] of the boxes [n, 4] of all images, in their order."""
        return ops.multiscale_roi_align(
            features[: len(self.scales)],
            boxes,
            self.output_size,
            self.scales,
            sampling_ratio=2,
            canonical_scale=self.canonical_scale,
        )


class TwoLayerHead(nn.Module):
    """A patch [K, C, h, w] to a vector [K, width] by two fully connected layers."""

    def __init__(self, inputs: int, width: int = 1024) -> None:
        super().__init__()
        self.fc6 = nn.Linear(inputs, width)
        self.fc7 = nn.Linear(width, width)

    def forward(self, patches: Tensor) -> Tensor:
        return F.relu(self.fc7(F.relu(self.fc6(patches.flatten(1)))))


class PartHead(nn.Module):
    """A patch [K, C, side, side] to a vector [K, width]: by its parts, and as a whole.

    Parts are overlapping 3x3 bins. Each has a vector, which knows where in the patch it is, and
    a weight by which it counts in their mean: a part that something hides can count little.

    Args:
        channels: of the patch.
        side: bins each way, 3 or more.
        width: numbers of a proposal.

    Source: Zhang et al., "Occluded Pedestrian Detection Through Guided Attention in CNNs", CVPR
    2018, whose attention is over channels; ours is over places.
    """

    def __init__(self, channels: int, side: int, width: int = 1024) -> None:
        super().__init__()
        parts = (side - 1) // 2  # each way
        self.whole = nn.Linear(channels * side**2, width)
        self.parts = nn.Conv2d(channels, width, 3, stride=2)
        self.places = nn.Parameter(torch.zeros(width, parts, parts))
        self.weight = nn.Conv2d(width, 1, 1)
        self.last = nn.Linear(2 * width, width)
        nn.init.normal_(self.places, std=0.1)

    def forward(self, patches: Tensor) -> Tensor:
        parts = F.relu(self.parts(patches) + self.places)  # [K, width, parts, parts]
        weights = self.weight(parts).flatten(2).softmax(2)
        mean = (parts.flatten(2) * weights).sum(2)
        return F.relu(self.last(torch.cat([F.relu(self.whole(patches.flatten(1))), mean], 1)))


class BoxPredictor(nn.Module):
    """A vector [K, inputs] to class logits [K, classes] and box deltas [K, classes, 4].

    Args:
        inputs: numbers of a proposal.
        num_classes: with the background.
    """

    def __init__(self, inputs: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(inputs, num_classes)
        self.bbox_pred = nn.Linear(inputs, num_classes * 4)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(vectors), self.bbox_pred(vectors).unflatten(1, (-1, 4))


class ConvHead(nn.Sequential):
    """A patch [K, C, side, side] to a vector [K, width]: four convolutions, one full layer.

    Source: Li et al., "Benchmarking Detection Transfer Learning with Vision Transformers", 2021.
    """

    def __init__(self, channels: int, side: int, width: int = 1024) -> None:
        convolutions = [
            Conv2dNormActivation(channels, channels, norm_layer=nn.BatchNorm2d) for _ in range(4)
        ]
        full = nn.Linear(channels * side**2, width)
        super().__init__(*convolutions, nn.Flatten(), full, nn.ReLU())
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
