"""A batch that does not fit into memory, in parts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import torch

from cvperf.errors import ArgumentError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# What torch's allocator for the CPU says; that of a GPU has an exception of its own.
_CPU = ("not enough memory", "can't allocate memory")


def ran_out(error: Exception) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(words in str(error) for words in _CPU)


def halved(fabric: Fabric, parts: int, images: int, error: Exception) -> int:
    """Twice as many parts, said aloud.

    Raises:
        ArgumentError: a part is one image already, or there are several processes, of which the
            others cannot know that this one starts its batch anew.
    """
    if fabric.world_size > 1:
        raise ArgumentError(
            f"a batch of {images} images does not fit into memory in {parts} parts; with several "
            f"processes set optimizer.parts={2 * parts} yourself"
        ) from error
    if parts >= images:
        raise ArgumentError(
            "not even one image fits into memory: take smaller images or another model"
        ) from error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    message = f"out of memory: batches are computed in {2 * parts} parts from here on"
    fabric.print(message, file=sys.stderr)
    return 2 * parts
