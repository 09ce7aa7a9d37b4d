"""A small network with layers of one bit, trained on Fashion-MNIST and run as a plan.

``python -m cvperf.benchmarks.fashion_binary FOLDER`` trains it, optimises it and counts right
answers on the 10,000 test images; in docs/binary.md is where FOLDER comes from.
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import cvperf
from cvperf.nn import BinaryConv2d, clip_latent_weights

BATCH = 128


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


def images_and_labels(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Fashion-MNIST's ``"train"`` or ``"t10k"``: float32 [N, 1, 28, 28] of mean 0, int64 [N]."""
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    images = (torch.from_numpy(pixels.copy()).float() / 255 - 0.286) / 0.353
    return images, torch.from_numpy(labels.astype(np.int64))


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int, rate: float) -> nn.Module:
    """By Adam with the rate falling to zero; half of the batches mirrored, latent weights clipped.

    In evaluation mode then.
    """
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), rate)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(1)
    for epoch in range(epochs):
        total = 0.0
        for some in _batches(torch.randperm(len(images), generator=generator)):
            batch = images[some]
            if torch.rand(1, generator=generator) < 0.5:
                batch = batch.flip(3)
            loss = nn.functional.cross_entropy(model(batch), labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            clip_latent_weights(model)
            total += float(loss.detach())
        print(f"epoch {epoch + 1}: loss {total * BATCH / len(images):.3f}", flush=True)
    return model.eval()


def _batches(order: Tensor) -> Iterator[Tensor]:
    return iter(order[: len(order) // BATCH * BATCH].split(BATCH))


def answers(model: nn.Module, images: Tensor) -> Tensor:
    """int64 [N], the class of each."""
    with torch.no_grad():
        return torch.cat([model(some).argmax(1) for some in images.split(500)])


def main() -> None:
    """Trains and counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    asked = parser.parse_args()
    torch.manual_seed(0)
    images, labels = images_and_labels(asked.folder, "train")
    unseen, truth = images_and_labels(asked.folder, "t10k")
    start = BinaryNet().to(memory_format=torch.channels_last)
    model = train(start, images, labels, asked.epochs, 3e-3)
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
