// The order in which blocks take the tiles of a matrix.
#pragma once
#include "device.cuh"

namespace gpu {

/// Row (x) and column (y) of a tile: down `group` rows of tiles, then the next column of tiles.
///
/// Blocks that run side by side then share rows of one factor and columns of the other, which stay in the L2 cache (the
/// "grouped ordering" of Triton's matrix multiplication tutorial).
__device__ __forceinline__ int2 grouped(int tile, int tiles_m, int tiles_n, int group) {
  const int width = group * tiles_n;
  const int first = tile / width * group;
  const int rows = min(tiles_m - first, group);
  return make_int2(first + tile % width % rows, tile % width / rows);
}

}  // namespace gpu
