"""What integers cost a small network that was trained on Fashion-MNIST.

``python -m cvperf.benchmarks.fashion FOLDER`` trains it, puts it on integers with and without
training for them, and counts right answers of each plan on the 10,000 test images; in
docs/optimize.md is where FOLDER comes from.
"""

from __future__ import annotations

import argparse
import copy
import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import cvperf

BATCH = 128


class SmallNet(nn.Module):
    """image [N, 1, 28, 28] of mean 0 to logits [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_layer(1, 32), nn.MaxPool2d(2), *_layer(32, 64), nn.MaxPool2d(2), *_layer(64, 128)
        )
        self.head = nn.Linear(128, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image).mean((2, 3)))


def _layer(channels: int, filters: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(filters), nn.ReLU()


def images_and_labels(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Fashion-MNIST's ``"train"`` or ``"t10k"``: float32 [N, 1, 28, 28] of mean 0, int64 [N]."""
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    images = (torch.from_numpy(pixels.copy()).float() / 255 - 0.286) / 0.353
    return images, torch.from_numpy(labels.astype(np.int64))


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int, rate: float) -> nn.Module:
    """By Adam with the rate falling to zero; images mirrored at random. In evaluation mode then."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), rate)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(1)
    for _ in range(epochs):
        for some in _batches(torch.randperm(len(images), generator=generator)):
            mirrored = images[some].flip(3) if torch.rand(1, generator=generator) < 0.5 else None
            logits = model(images[some] if mirrored is None else mirrored)
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, labels[some]).backward()
            optimizer.step()
            schedule.step()
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
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--more", type=int, default=2, help="epochs of training on integers")
    asked = parser.parse_args()
    torch.manual_seed(0)
    images, labels = images_and_labels(asked.folder, "train")
    unseen, truth = images_and_labels(asked.folder, "t10k")

    def report(name: str, fast: nn.Module) -> Tensor:
        found = answers(fast, unseen)
        print(f"{name:40} {(found == truth).double().mean():.2%}", flush=True)
        return found

    start = SmallNet().to(memory_format=torch.channels_last)
    model = train(start, images, labels, asked.epochs, 2e-3)
    report("float", cvperf.optimize(model))
    more = train(copy.deepcopy(model), images, labels, asked.more, 5e-4)
    report("float, trained on as long as those below", cvperf.optimize(more))
    calibration = list(images[:1024].split(64))
    for bits in (8, 4):
        given = cvperf.Int8Config(calibration=calibration, weight_bits=bits)
        config = cvperf.Int8Config(weight_bits=bits)
        report(f"INT{bits} weights, calibrated", cvperf.optimize(model, given))
        trained = train(cvperf.prepare_qat(model, config), images, labels, asked.more, 5e-4)
        found = report(f"INT{bits} weights, trained", cvperf.optimize(trained, config))
        same = (found == answers(trained, unseen)).double().mean()
        print(f"  the same class as in training on {same:.2%}", flush=True)


if __name__ == "__main__":
    main()
