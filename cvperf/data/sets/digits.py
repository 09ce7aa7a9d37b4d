"""scikit-learn's handwritten digits: 1,797 pictures, 8x8, grey."""

from __future__ import annotations

import torch

from cvperf.data.sets.base import InMemory
from cvperf.data.sets.splits import check_split, divide
from cvperf.errors import ArgumentError


def load(split: str, half: int = 0) -> InMemory:
    """Split ``"train"`` (1,436) or ``"test"`` (361), images uint8 [N, 1, 8, 8].

    The set has no split of its own: a fifth of each class, always the same, is ``"test"``.
    Its 17 greys are spread over 0 to 255.

    Args:
        split: which.
        half: 1 or 2: of ``"train"`` one half of each class only, for two domains that share no
            digit; 0: all of it.

    Raises:
        ArgumentError: there is no such split or half.
    """
    check_split(split, ("train", "test"))
    if half not in (0, 1, 2):
        raise ArgumentError(f"half must be 1, 2, or 0 for all, got {half!r}")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("digits come with scikit-learn: pip install 'cvperf[train]'") from error
    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).mul(255 / 16).round().to(torch.uint8).view(-1, 1, 8, 8)
    truth = torch.from_numpy(labels).long()
    chosen = divide(truth, split, validation=0, test=0.2)
    if half and split == "train":
        chosen = chosen[divide(truth[chosen], "train" if half == 1 else "test", test=0.5)]
    return InMemory(images[chosen], truth[chosen], [str(n) for n in range(10)])
