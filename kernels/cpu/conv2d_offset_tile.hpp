// A register tile over data that lies where it lies: sum[i][v] += a[i][a_offset[k]] * b[b_offset[k] ...]. Both sides
// of the product are found through tables of offsets, so that a convolution's shifted windows need no unfolded copy
// (the idea of gemm_tile.hpp carried to both sides). For the layers whose sums are too short, or whose windows too
// ragged, to pay for packing: few input channels, and the gradient of the weight.
#pragma once
#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {

#if CVPERF_VECTOR_BYTES == 64
constexpr int kOffsetVectors = 4;
#else
constexpr int kOffsetVectors = 2;
#endif

// Rows that fill the registers beside `vectors` vectors, and no more than there are address registers for.
constexpr int offset_rows(int vectors) {
#if CVPERF_VECTOR_BYTES == 64
  return vectors == 4 ? 6 : 8;
#elif CVPERF_VECTOR_BYTES == 32 || defined(__aarch64__)
  return vectors == 2 ? 6 : 8;
#else
  return vectors == 2 ? 4 : 8;
#endif
}

template <class C, int Rows, int Vectors>
CVPERF_INLINE void multiply_offsets(const C* const (&a)[Rows], const std::int64_t* a_offset, const C* b,
                                    const std::int64_t* b_offset, std::int64_t depth, Vec<C> (&sum)[Rows][Vectors]) {
  constexpr int lanes = kLanes<C>;
  for (std::int64_t k = 0; k < depth; ++k) {
    std::int64_t at = a_offset[k];
    const C* from = b + b_offset[k];
    hold(at);
    hold(from);
    Vec<C> column[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) column[v] = load(from + v * lanes);
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      const Vec<C> x = broadcast(a[i][at]);
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sum[i][v] += x * column[v];
    }
  }
}

// Vectors of a tile for `count` elements in a row: where it does not divide, the last tile overlaps the one before,
// so the choice is the one that computes least, the largest of equals. 0 if there is not even one whole vector.
inline int pick_vectors(std::int64_t count, std::int64_t lanes) {
  int best = 0;
  std::int64_t least = 0;
  for (int vectors = kOffsetVectors; vectors > 0; --vectors) {
    if (vectors * lanes > count) continue;
    const std::int64_t computed = (count + vectors * lanes - 1) / (vectors * lanes) * vectors;
    if (!best || computed < least) best = vectors, least = computed;
  }
  return best;
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
