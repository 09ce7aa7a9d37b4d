"""A scene of two bright boxes, for detectors to learn by heart."""

import torch
from torch import Tensor

PROPOSALS = torch.tensor(
    [
        [10.0, 20.0, 40.0, 60.0],
        [55.0, 50.0, 90.0, 85.0],
        [12.0, 18.0, 36.0, 64.0],
        [50.0, 46.0, 86.0, 90.0],
        [0.0, 0.0, 30.0, 30.0],
        [60.0, 0.0, 96.0, 40.0],
        [0.0, 60.0, 50.0, 96.0],
        [30.0, 30.0, 70.0, 70.0],
    ]
)


def scene() -> tuple[Tensor, dict[str, Tensor]]:
    """An image [3, 96, 96] and its target: class 1 is red, class 2 blue."""
    image = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(3)) * 0.2
    masks = torch.zeros(2, 96, 96, dtype=torch.bool)
    masks[0, 20:60, 10:40] = True
    masks[1, 50:85, 55:90] = True
    image[0] += 0.7 * masks[0]
    image[2] += 0.7 * masks[1]
    boxes = torch.tensor([[10.0, 20.0, 40.0, 60.0], [55.0, 50.0, 90.0, 85.0]])
    return image, {"boxes": boxes, "labels": torch.tensor([1, 2]), "masks": masks}


def nothing() -> tuple[Tensor, dict[str, Tensor]]:
    """An image without objects."""
    labels = torch.zeros(0, dtype=torch.int64)
    masks = torch.zeros(0, 96, 96, dtype=torch.bool)
    image = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(4))
    return image, {"boxes": torch.zeros(0, 4), "labels": labels, "masks": masks}
