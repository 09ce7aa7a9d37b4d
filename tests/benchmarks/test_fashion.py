"""The files of Fashion-MNIST are read as they are laid out, and training learns."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch

from cvperf.benchmarks.fashion import SmallNet
from cvperf.benchmarks.fashion_mnist import answers, images_and_labels, train


def test_files_are_read(tmp_path: Path) -> None:
    pixels = np.arange(3 * 28 * 28, dtype=np.uint32).astype(np.uint8)
    with gzip.open(tmp_path / "t10k-images-idx3-ubyte.gz", "wb") as file:
        file.write(bytes(16) + pixels.tobytes())
    with gzip.open(tmp_path / "t10k-labels-idx1-ubyte.gz", "wb") as file:
        file.write(bytes(8) + bytes([7, 0, 9]))
    images, labels = images_and_labels(tmp_path, "t10k")
    assert images.shape == (3, 1, 28, 28)
    assert labels.tolist() == [7, 0, 9]
    torch.testing.assert_close(images[0, 0, 0, 5].item(), (5 / 255 - 0.286) / 0.353)


def test_training_learns() -> None:
    labels = torch.arange(512) % 2
    images = torch.randn(512, 1, 28, 28) * 0.1 + labels.view(-1, 1, 1, 1)
    model = train(SmallNet(), images, labels, 3, 2e-3)
    assert not model.training
    assert (answers(model, images) == labels).double().mean() > 0.95
