"""What the pixels alone tell: a nearest-neighbour baseline beside a run's figures."""

from __future__ import annotations

import torch

from cvperf.data import ImageSet
from cvperf.train.loader import in_order

_CPU = torch.device("cpu")


def pixel_accuracy(train: ImageSet, test: ImageSet, neighbours: int) -> float:
    """Accuracy of scikit-learn's k-nearest neighbours on pixels, by Euclidean distance.

    Args:
        train: a few images of one class each, all in memory at once.
        test: as ``train``; read batch by batch.
        neighbours: how many vote.
    """
    from sklearn.neighbors import KNeighborsClassifier

    batches = list(in_order(train, 256, _CPU))
    known = KNeighborsClassifier(neighbours).fit(
        torch.cat([batch.images for batch in batches]).flatten(1).float().numpy(),
        torch.cat([batch.targets for batch in batches]).numpy(),
    )
    right = count = 0
    for batch in in_order(test, 256, _CPU):
        if len(batch.images):  # some could be read
            found = known.predict(batch.images.flatten(1).float().numpy())
            right += int((found == batch.targets.numpy()).sum())
            count += len(found)
    return right / count
