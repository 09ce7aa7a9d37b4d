"""How weights are packed for the GPU. Needs no Triton: ``cvperf.ops`` checks shapes by it."""

from __future__ import annotations

from collections.abc import Sequence


def packed_int8_shape(k: int, n: int) -> tuple[int, int]:
    """int8 [rows, columns] of a packed b[K, N]: its columns as rows, and below them their sums.

    A row is K bytes, padded with zeros to a multiple of 16 (what a tensor descriptor asks for).
    The rows from n on hold the n sums as int32.
    """
    columns = 16 * ((k + 15) // 16) if k else 16
    return n + (4 * n + columns - 1) // columns, columns


def packed_conv2d_int8_shape(weight: Sequence[int], groups: int) -> tuple[int, int]:
    """int8 [rows, columns] of a packed weight [O, C / groups, kh, kw].

    As the matrix [kh * kw * C / groups, O] is packed; but depthwise a row is a tap, its columns
    are the O filters padded with zeros to a multiple of 16, and there are no sums.
    """
    filters, channels, height, width = weight
    if channels == 1 and groups > 1:
        return height * width, 16 * ((filters + 15) // 16)
    return packed_int8_shape(height * width * channels, filters)
