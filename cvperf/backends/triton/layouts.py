"""How weights are packed for the GPU. Needs no Triton: ``cvperf.ops`` checks shapes by it."""

from __future__ import annotations


def packed_int8_shape(k: int, n: int) -> tuple[int, int]:
    """int8 [rows, columns] of a packed b[K, N]: its columns as rows, and below them their sums.

    A row is K bytes, padded with zeros to a multiple of 16 (what a tensor descriptor asks for).
    The rows from n on hold the n sums as int32.
    """
    columns = 16 * ((k + 15) // 16) if k else 16
    return n + (4 * n + columns - 1) // columns, columns
