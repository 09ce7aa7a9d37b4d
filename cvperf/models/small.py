"""Networks for small images: LeNet-5, and a plain stack of 3x3 convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from cvperf.errors import ArgumentError, describe


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

    Takes an image [N, channels, H, W] of any size from ``stride * 2 ** (len(widths) - 1)`` pixels
    on, gives logits [N, classes].

    Args:
        classes: of the answer.
        channels: of the image.
        widths: filters of each layer. Those in a list of their own, as in ``[16, [32, 32]]``, see
            the image at one size.
        stride: of the first layer, whose kernel is 5x5 for 2.
        dropout: probability that a whole feature map is set to zero before the head.
        pool: how an answer for the whole picture is made. ``"mean"``: of the feature maps' means.
            ``"places"``: the head answers for each place, and the smooth maximum of that (the
            logarithm of the mean of exponentials) counts, which suits pictures with several small
            things (Pinheiro and Collobert, CVPR 2015).

    Raises:
        ArgumentError: ``pool`` is neither.
    """

    def __init__(
        self,
        classes: int = 10,
        channels: int = 1,
        widths: Sequence[int | Sequence[int]] = (32, 64, 128),
        dropout: float = 0.0,
        pool: str = "mean",
        stride: int = 1,
    ) -> None:
        super().__init__()
        if pool not in ("mean", "places"):
            raise ArgumentError(f'pool must be "mean" or "places", got {describe(pool)}')
        layers: list[nn.Module] = []
        inputs, step = channels, stride
        for size, filters in enumerate(widths):
            layers += [nn.MaxPool2d(2)] if size else []
            for outputs in (filters,) if isinstance(filters, int) else filters:
                layers += [
                    nn.Conv2d(inputs, outputs, 2 * step + 1, step, padding=step, bias=False),
                    nn.BatchNorm2d(outputs),
                    nn.ReLU(),
                ]
                inputs, step = outputs, 1
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Linear(inputs, classes)
        self.pool = pool

    def forward(self, image: Tensor) -> Tensor:
        maps = self.dropout(self.features(image))
        if self.pool == "mean":
            return self.head(maps.mean((2, 3)))
        answers = self.head(maps.flatten(2).transpose(1, 2))  # [N, H * W, classes]
        return answers.logsumexp(1) - math.log(answers.shape[1])
