"""Steps of training, weights random: where convolution gradients and RoI Align's weigh in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvperf.bench.problems.base import Shape
from cvperf.bench.problems.training import Recipe, TrainingShape


class Classifier(nn.Module):
    """Cross-entropy of a network on (images [N, C, H, W], labels [N])."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.network(images), labels)


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
    network = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )
    return Recipe(Classifier(network), (torch.rand(64, 1, 28, 28), torch.randint(10, (64,))))


def _resnet18() -> Recipe:
    from torchvision.models import resnet18

    network = Classifier(resnet18(weights=None, num_classes=100))
    return Recipe(network, (torch.rand(8, 3, 128, 128), torch.randint(100, (8,))))


def _mobilenet_v2() -> Recipe:
    from torchvision.models import mobilenet_v2

    # Without dropout, which would be drawn anew for every contender.
    network = Classifier(mobilenet_v2(weights=None, num_classes=100, dropout=0.0))
    return Recipe(network, (torch.rand(8, 3, 128, 128), torch.randint(100, (8,))))


def _box_head() -> Recipe:
    corner = torch.rand(256, 2) * 200
    sides = 16 + torch.rand(256, 2) * 180
    image = torch.randint(2, (256, 1)).float()
    boxes = torch.cat([image, corner, corner + sides], 1)
    return Recipe(BoxHead(), (torch.randn(2, 256, 100, 100), boxes, torch.randint(91, (256,))))


_RECIPES: Sequence[tuple[str, int, Callable[[], Recipe], bool]] = (
    ("lenet", 64, _lenet, True),
    ("resnet18", 8, _resnet18, False),
    ("mobilenet_v2", 8, _mobilenet_v2, False),
    ("rcnn_box_head", 2, _box_head, True),
)


def shapes(quick: bool, device: str) -> Sequence[Shape]:
    """Each recipe at its one batch size."""
    every = [
        TrainingShape(name=f"{name} n{images}", recipe=name, images=images, build=build, quick=fast)
        for name, images, build, fast in _RECIPES
    ]
    return [shape for shape in every if shape.quick or not quick]
