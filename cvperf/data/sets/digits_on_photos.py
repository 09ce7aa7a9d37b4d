"""Composed: scikit-learn's digits, each the negative of a place in a photo."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cvperf.data.photos import photo
from cvperf.data.sets import digits
from cvperf.data.sets.base import InMemory

PHOTOS = {
    "train": ("coffee", "motorcycle", "pagoda", "cat"),
    "test": ("astronaut", "dahlia", "rocket", "camera"),
}
"""Split -> photos that its backgrounds are cut from."""


def load(split: str, size: int = 16) -> InMemory:
    """Split ``"train"`` (719) or ``"test"`` (359), images uint8 [N, 3, size, size].

    The second half of the digits that ``load("digits", "train")`` has, so that a model trained on
    the first has seen none of them, or the test digits; enlarged, and laid over a crop of a real
    photo as ``abs(crop - digit)``. The same crops always; those of ``"test"`` are of other photos.

    Args:
        split: which.
        size: of an image.

    Source: MNIST-M of Ganin and Lempitsky, "Unsupervised Domain Adaptation by Backpropagation",
    ICML 2015.
    """
    given = digits.load(split, half=2)
    enlarged = interpolate(given.images.float(), (size, size), mode="bilinear")
    crops = _crops(PHOTOS[split], len(given), size)
    images = (crops.float() - enlarged).abs().round().to(torch.uint8)
    return InMemory(images, given.labels, given.classes)


def _crops(names: tuple[str, ...], count: int, size: int) -> Tensor:
    """uint8 [count, 3, size, size]: places in photos, the photos by turns."""
    photos = [torch.from_numpy(np.array(photo(name))).permute(2, 0, 1) for name in names]
    generator = np.random.RandomState(0)  # NumPy promises that its numbers never change
    crops = []
    for index in range(count):
        picture = photos[index % len(photos)]
        top, left = (generator.randint(side - size + 1) for side in picture.shape[1:])
        crops.append(picture[:, top : top + size, left : left + size])
    return torch.stack(crops)
