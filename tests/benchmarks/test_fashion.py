"""The short training on Fashion-MNIST learns."""

from __future__ import annotations

import torch

from cvperf.benchmarks.fashion_mnist import answers, train
from cvperf.models.small import SmallCNN


def test_training_learns() -> None:
    labels = torch.arange(512) % 2
    images = torch.randn(512, 1, 28, 28) * 0.1 + labels.view(-1, 1, 1, 1)
    model = train(SmallCNN(), images, labels, 3, 2e-3)
    assert not model.training
    assert (answers(model, images) == labels).double().mean() > 0.95
