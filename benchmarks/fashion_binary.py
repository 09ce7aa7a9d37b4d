"""A small network with layers of one bit, trained on Fashion-MNIST and run as a plan.

``python -m cvperf.benchmarks.fashion_binary`` trains it, optimises it and counts right answers on
the 10,000 test images.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

import cvperf
from cvperf.benchmarks.fashion_mnist import answers, images_and_labels, train
from cvperf.nn import BinaryConv2d, clip_latent_weights


class BinaryNet(nn.Module):
    """image [N, 1, 28, 28] of mean 0 to logits [N, 10]; all but the ends on bits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(32)
        )
        self.bits = nn.Sequential(
            *(BinaryConv2d(32, 64, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(64)),
            *(BinaryConv2d(64, 128, 3, padding=1, bias=False), nn.BatchNorm2d(128)),
            *(BinaryConv2d(128, 128, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(128)),
        )
        self.head = nn.Linear(128, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.bits(self.stem(image)).relu().mean((2, 3)))


def main() -> None:
    """Trains and counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    asked = parser.parse_args()
    torch.manual_seed(0)
    images, labels = images_and_labels("train")
    unseen, truth = images_and_labels("test")
    start = BinaryNet().to(memory_format=torch.channels_last)
    model = train(start, images, labels, asked.epochs, 3e-3, clip_latent_weights)
    fast = cvperf.optimize(model)
    found = answers(fast, unseen)
    # With gradients asked for, the layers compute with numbers that are +1 and -1.
    expected = torch.cat([model(some).detach().argmax(1) for some in unseen.split(500)])
    print(fast.explain())
    print(f"as a plan on bits {(found == truth).double().mean():.2%}")
    print(f"by torch's floats {(expected == truth).double().mean():.2%}")
    print(f"the same class on {(found == expected).double().mean():.2%}")


if __name__ == "__main__":
    main()
