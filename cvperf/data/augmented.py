"""Random transforms whose numbers depend on the sample alone, not on who loads it or when."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator, set_bit_generator
from torch.utils.data import Dataset

from cvperf.data.samples import Batch, Broken, ImageSet
from cvperf.data.sets.base import InMemory
from cvperf.errors import check_count

Transform = Callable[[Any, Any], tuple[Any, Any]]
"""(image, target) to (image, target), as ``torchvision.transforms.v2`` has it."""


class Augmented(Dataset[Any]):
    """A data set with a random transform on it.

    Sample ``i`` of epoch ``e`` draws its random numbers from (seed, e, i) alone: whatever the
    number of loader processes, and where a run resumes in the middle of an epoch, it is the same
    picture. That holds for numbers from torch (those of torchvision's transforms), NumPy's global
    generator and Python's ``random``; the generators of the process are left as they were.

    Args:
        dataset: samples (image, target); a :class:`Broken` one passes through.
        transform: called with image and target; None for the samples as they are.
        seed: 0 or more.
    """

    def __init__(self, dataset: ImageSet, transform: Transform | None, seed: int = 0) -> None:
        check_count("seed", seed)
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        # Shared memory: loader processes that persist see a new epoch too.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def classes(self) -> tuple[str, ...]:
        return self.dataset.classes

    @property
    def labels(self) -> torch.Tensor | None:
        return self.dataset.labels

    def set_epoch(self, epoch: int) -> None:
        """Call it before the epoch's iterator is made, as with a ``DistributedSampler``."""
        check_count("epoch", epoch)
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        index = range(len(self))[index]  # -1 is the same sample as the last
        sample = self.dataset[index]
        if isinstance(sample, Broken) or self.transform is None:
            return sample
        with _numbers_from(self.seed, int(self._epoch), index):
            return self.transform(*sample)

    def __getitems__(self, indices: list[int]) -> Any:
        """For a DataLoader's batch: images in memory, as they are, come out in one piece."""
        if self.transform is None and isinstance(self.dataset, InMemory):
            return Batch(self.dataset.images[indices], self.dataset.labels[indices], [])
        return [self[index] for index in indices]


@contextmanager
def _numbers_from(*key: int) -> Iterator[None]:
    """Seed the global generators of the CPU for a block."""
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    torch_state, numpy_generator = torch.default_generator.get_state(), get_bit_generator()
    python_state = random.getstate()
    # Not torch.manual_seed, which would seed the GPUs too.
    torch.default_generator.manual_seed(seed)
    set_bit_generator(_numpy_generator())
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(torch_state)
        set_bit_generator(numpy_generator)
        random.setstate(python_state)


@cache
def _numpy_generator() -> np.random.MT19937:
    # To put another generator in place takes 1 us; to save and restore the state of one takes 300.
    return np.random.MT19937(0)
