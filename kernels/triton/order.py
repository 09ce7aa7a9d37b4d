"""The order in which programs take the tiles of a matrix."""

import triton
import triton.language as tl


@triton.jit
def grouped(tile, tiles_m, tiles_n, GROUP: tl.constexpr):
    """Row and column of the tile: down GROUP rows of tiles, then the next column of tiles.

    Programs that run side by side then share rows of one factor and columns of the other, which
    stay in the L2 cache (the "grouped ordering" of Triton's matrix multiplication tutorial).
    """
    width = GROUP * tiles_n
    first = tile // width * GROUP
    rows = tl.minimum(tiles_m - first, GROUP)
    return first + tile % width % rows, tile % width // rows
