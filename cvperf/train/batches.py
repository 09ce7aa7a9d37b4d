"""Which images form which batch: a matter of seed and epoch alone, not of processes or restarts."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class ShuffledBatches(Sampler[list[int]]):
    """Indices of each batch of an epoch, for one of ``world`` processes.

    The batches of all processes together are those of a single one: batch b of epoch e is a slice
    of the permutation drawn from (seed, e), of which process ``rank`` takes every world-th image.
    What is left over at the end of an epoch, less than a batch, waits for the next one.

    Args:
        length: images in the set.
        batch_size: images a batch of all processes together; a smaller set is one batch.
        seed: of the permutations.
        rank: this process.
        world: how many there are.
        weights: float [length], how often an image is drawn, with replacement; None: each once.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
        weights: torch.Tensor | None = None,
    ) -> None:
        self._length, self._size, self._seed = length, min(batch_size, length), seed
        self._rank, self._world, self._weights = rank, world, weights
        self._epoch = self._first = 0

    def start(self, epoch: int, batch: int = 0) -> None:
        """Let the next iteration give this epoch's batches from this one on."""
        self._epoch, self._first = epoch, batch

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return self._length // self._size

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order()
        for batch in range(self._first, len(self)):
            whole = order[batch * self._size : (batch + 1) * self._size]
            yield whole[self._rank :: self._world].tolist()

    def _order(self) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        if self._weights is None:
            return torch.randperm(self._length, generator=generator)
        return torch.multinomial(self._weights, self._length, True, generator=generator)
