"""Batches of training images, and of images to be judged, for this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities import move_data_to_device
from torch.utils.data import DataLoader, Dataset, Subset

from cvperf.data import Augmented, Batch, ImageSet, collate
from cvperf.train.batches import ShuffledBatches
from cvperf.train.recipe import Recipe


class TrainingLoader:
    """Augmented images in shuffled batches, on a device.

    Args:
        images: the set, with its augmentation.
        batches: which images form a batch.
        device: where batches are put.
        workers: processes that read and augment; 0: this one.
    """

    def __init__(
        self, images: Augmented, batches: ShuffledBatches, device: torch.device, workers: int
    ) -> None:
        self._images, self._batches, self._device = images, batches, device
        self._loader = DataLoader(
            images,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )

    def start(self, epoch: int, batch: int = 0) -> None:
        """Let the next iteration give this epoch's batches from this one on."""
        self._images.set_epoch(epoch)
        self._batches.start(epoch, batch)

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            yield move_data_to_device(batch, self._device)


def in_order(
    images: ImageSet,
    batch_size: int,
    device: torch.device,
    *,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """Every image once, shared among the processes: this one has every ``world``-th."""
    mine = Subset(cast(Dataset[Any], images), range(rank, len(images), world))
    loader = DataLoader(mine, batch_size, collate_fn=collate, num_workers=workers)
    for batch in loader:
        yield move_data_to_device(batch, device)


def shared_out(fabric: Fabric, recipe: Recipe, images: ImageSet) -> Iterator[Batch]:
    """Every image once, in order, for a judgement by all processes: this one's share."""
    return in_order(
        images,
        max(1, recipe.batch_size // fabric.world_size),
        fabric.device,
        rank=fabric.global_rank,
        world=fabric.world_size,
        workers=recipe.data.workers,
    )
