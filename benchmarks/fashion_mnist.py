"""Fashion-MNIST, and a short training on it: what the commands of this folder share."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

BATCH = 128


def images_and_labels(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Fashion-MNIST's ``"train"`` or ``"t10k"``: float32 [N, 1, 28, 28] of mean 0, int64 [N]."""
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    images = (torch.from_numpy(pixels.copy()).float() / 255 - 0.286) / 0.353
    return images, torch.from_numpy(labels.astype(np.int64))


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epochs: int,
    rate: float,
    after_step: Callable[[nn.Module], object] = lambda model: None,
) -> nn.Module:
    """By Adam with the rate falling to zero; half of the batches mirrored. In evaluation mode then.

    Args:
        model: image to logits.
        images: [N, 1, 28, 28].
        labels: int64 [N].
        epochs: how often each image is seen.
        rate: Adam's, at first.
        after_step: called with the model after each step.
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
            after_step(model)
            total += float(loss.detach())
        print(f"epoch {epoch + 1} of {epochs}: loss {total * BATCH / len(images):.3f}", flush=True)
    return model.eval()


def _batches(order: Tensor) -> Iterator[Tensor]:
    return iter(order[: len(order) // BATCH * BATCH].split(BATCH))


def answers(model: nn.Module, images: Tensor) -> Tensor:
    """int64 [N], the class of each."""
    with torch.no_grad():
        return torch.cat([model(some).argmax(1) for some in images.split(500)])
