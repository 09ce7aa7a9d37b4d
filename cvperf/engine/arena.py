"""Where each buffer of a plan lies in one block of memory that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


@dataclass(frozen=True)
class Lifetime:
    """A buffer's size in bytes, and the first and last step that touches it."""

    bytes: int
    first: int
    last: int


def place(buffers: Sequence[Lifetime]) -> tuple[list[int], int]:
    """An offset for each buffer, such that two that live at the same time do not overlap.

    Returns:
        The offsets in bytes, and the size of the whole.

    Complexity: O(n^2) of n buffers; hundreds in a network.

    Source: Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020:
    greedy by size, each into the smallest gap that it fits.
    """
    offsets = [0] * len(buffers)
    placed: list[int] = []  # by offset
    size = 0
    for i in sorted(range(len(buffers)), key=lambda i: (-buffers[i].bytes, buffers[i].first)):
        wanted = -(-buffers[i].bytes // ALIGNMENT) * ALIGNMENT
        best, least, end = None, None, 0
        for j in placed:
            if buffers[j].last < buffers[i].first or buffers[i].last < buffers[j].first:
                continue
            gap = offsets[j] - end
            if gap >= wanted and (least is None or gap < least):
                best, least = end, gap
            end = max(end, offsets[j] + -(-buffers[j].bytes // ALIGNMENT) * ALIGNMENT)
        offsets[i] = end if best is None else best
        size = max(size, offsets[i] + wanted)
        placed.append(i)
        placed.sort(key=lambda j: offsets[j])
    return offsets, size
