// Four rows of 16 bytes as 16 quads.
#pragma once
#include <cstdint>

#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

typedef std::int8_t Bytes __attribute__((vector_size(16)));

CVPERF_INLINE Bytes low_pairs(Bytes a, Bytes b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
CVPERF_INLINE Bytes high_pairs(Bytes a, Bytes b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
CVPERF_INLINE Bytes low_words(Bytes a, Bytes b) {
  return __builtin_shufflevector(a, b, 0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23);
}
CVPERF_INLINE Bytes high_words(Bytes a, Bytes b) {
  return __builtin_shufflevector(a, b, 8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31);
}

// quads [16][4] = rows[4][16] transposed, 4 quads in a vector.
CVPERF_INLINE void interleave(const Bytes (&rows)[4], Bytes (&quads)[4]) {
  const Bytes low01 = low_pairs(rows[0], rows[1]), low23 = low_pairs(rows[2], rows[3]);
  const Bytes high01 = high_pairs(rows[0], rows[1]), high23 = high_pairs(rows[2], rows[3]);
  quads[0] = low_words(low01, low23);
  quads[1] = high_words(low01, low23);
  quads[2] = low_words(high01, high23);
  quads[3] = high_words(high01, high23);
}

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf
