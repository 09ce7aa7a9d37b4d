"""scikit-learn's handwritten digits: 1,797 pictures, 8x8, grey."""

from __future__ import annotations

import torch

from cvperf.data.sets.base import InMemory
from cvperf.data.sets.splits import check_split, divide


def load(split: str) -> InMemory:
    """Split ``"train"`` (1,436) or ``"test"`` (361), images uint8 [N, 1, 8, 8].

    The set has no split of its own: a fifth of each class, always the same, is ``"test"``.
    Its 17 greys are spread over 0 to 255.
    """
    check_split(split, ("train", "test"))
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("digits come with scikit-learn: pip install 'cvperf[train]'") from error
    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).mul(255 / 16).round().to(torch.uint8).view(-1, 1, 8, 8)
    chosen = divide(torch.from_numpy(labels).long(), split, validation=0, test=0.2)
    return InMemory(
        images[chosen], torch.from_numpy(labels).long()[chosen], [str(n) for n in range(10)]
    )
