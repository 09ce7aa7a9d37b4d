"""Fashion-MNIST, and a short training on it: what the commands of this folder share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from cvperf.data.sets import fashion_mnist

BATCH = 128


def images_and_labels(split: str) -> tuple[Tensor, Tensor]:
    """Fashion-MNIST's ``"train"`` or ``"test"``: float32 [N, 1, 28, 28] of mean 0, int64 [N]."""
    dataset = fashion_mnist.load(split)
    return (dataset.images.float() / 255 - 0.286) / 0.353, dataset.labels


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
