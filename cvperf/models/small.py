"""Networks for small images: LeNet-5, and a plain stack of 3x3 convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class LeNet(nn.Module):
    """LeNet-5 with ReLU and max pooling: image [N, channels, 28, 28] to logits [N, classes].

    Source: LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998; the
    original has tanh-like units, trained pooling and a partly connected second layer.
    """

    def __init__(self, classes: int = 10, channels: int = 1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * 5 * 5, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, classes),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.features(image))


class SmallCNN(nn.Module):
    """3x3 convolutions with batch norm and ReLU, halving the image between them.

    Takes an image [N, channels, H, W] of any size from ``2 ** (len(widths) - 1)`` pixels on, gives
    logits [N, classes].

    Args:
        classes: of the answer.
        channels: of the image.
        widths: filters of each layer.
        dropout: probability that a whole feature map is set to zero before the head.
    """

    def __init__(
        self,
        classes: int = 10,
        channels: int = 1,
        widths: Sequence[int] = (32, 64, 128),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, (inputs, filters) in enumerate(zip((channels, *widths), widths, strict=False)):
            layers += [nn.MaxPool2d(2)] if index else []
            layers += [
                nn.Conv2d(inputs, filters, 3, padding=1, bias=False),
                nn.BatchNorm2d(filters),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(image)).mean((2, 3)))
