"""Steps of training, weights random: where convolution gradients and RoI Align's weigh in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvperf.bench.problems.base import Shape
from cvperf.bench.problems.training import Recipe, TrainingShape
from cvperf.benchmarks.networks import WHOLE_NETWORKS
from cvperf.models.small import LeNet


class Classifier(nn.Module):
    """Cross-entropy of a network on (images [N, C, H, W], labels [N])."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.network(images), labels)


class Segmenter(nn.Module):
    """Binary cross-entropy of a network on (images [N, C, H, W], masks float [N, 1, H, W])."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.network(images)[:, :1], masks)


class BoxHead(nn.Module):
    """The box branch of Faster R-CNN on one pyramid level: RoI Align, two layers, classes.

    A 3x3 convolution stands for the pyramid, so that RoI Align's gradient is needed.
    """

    def __init__(self, channels: int = 256, classes: int = 91) -> None:
        super().__init__()
        self.pyramid = nn.Conv2d(channels, channels, 3, padding=1)
        self.hidden = nn.Linear(channels * 49, 256)
        self.classes = nn.Linear(256, classes)

    def forward(self, features: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        from torchvision.ops import roi_align

        crops = roi_align(self.pyramid(features), boxes, (7, 7), 0.25, 2)
        return F.cross_entropy(self.classes(F.relu(self.hidden(crops.flatten(1)))), labels)


def _lenet() -> Recipe:
    return Recipe(Classifier(LeNet()), (torch.rand(64, 1, 28, 28), torch.randint(10, (64,))))


def _resnet18() -> Recipe:
    from torchvision.models import resnet18

    network = Classifier(resnet18(weights=None, num_classes=100))
    return Recipe(network, (torch.rand(16, 3, 128, 128), torch.randint(100, (16,))))


def _mobilenet_v2() -> Recipe:
    from torchvision.models import mobilenet_v2

    # Without dropout, which would be drawn anew for every contender.
    network = Classifier(mobilenet_v2(weights=None, num_classes=100, dropout=0.0))
    return Recipe(network, (torch.rand(16, 3, 128, 128), torch.randint(100, (16,))))


def _unet() -> Recipe:
    network = Segmenter(WHOLE_NETWORKS["unet"].build())
    return Recipe(
        network, (torch.rand(16, 1, 128, 128), (torch.rand(16, 1, 128, 128) < 0.3).float())
    )


def _box_head() -> Recipe:
    corner = torch.rand(256, 2) * 200
    sides = 16 + torch.rand(256, 2) * 180
    image = torch.randint(2, (256, 1)).float()
    boxes = torch.cat([image, corner, corner + sides], 1)
    return Recipe(BoxHead(), (torch.randn(2, 256, 100, 100), boxes, torch.randint(91, (256,))))


_RECIPES: Sequence[tuple[str, int, str, Callable[[], Recipe]]] = (
    ("lenet", 64, "contiguous", _lenet),
    ("resnet18", 16, "channels_last", _resnet18),
    ("mobilenet_v2", 16, "channels_last", _mobilenet_v2),
    ("unet", 16, "channels_last", _unet),
    ("rcnn_box_head", 2, "contiguous", _box_head),
)
_QUICK = ("lenet", "rcnn_box_head")


def shapes(quick: bool, device: str) -> Sequence[Shape]:
    """Each recipe at its one batch size."""
    return [
        TrainingShape(
            name=f"{name} n{images}",
            recipe=name,
            images=images,
            build=build,
            layout=layout,
            quick=name in _QUICK,
        )
        for name, images, layout, build in _RECIPES
        if name in _QUICK or not quick
    ]
