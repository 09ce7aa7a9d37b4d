// The register tile that every dense convolution here ends in: C[rows][columns] += A[rows][k] * B[k][columns].
//
// Columns are vectors of B, read from a packed panel; rows are broadcast from A through one pointer a row, so A
// need not be packed: the rows may be pixels of a channels-last image or rows of a weight (the indirection is
// XNNPACK's idea, Dukhan 2019, "The Indirect Convolution Algorithm"). The tile is as large as the registers
// allow (Goto and van de Geijn 2008): it needs at least 8 accumulators in flight to hide the latency of FMA.
#pragma once
#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {

#if CVPERF_VECTOR_BYTES == 64
constexpr int kTileRows = 8, kTileVectors = 3;  // 24 accumulators of 32 registers
#elif CVPERF_VECTOR_BYTES == 32 || defined(__aarch64__)
constexpr int kTileRows = 6, kTileVectors = 2;  // 12 of 16
#else
constexpr int kTileRows = 4, kTileVectors = 2;  // 8 of 16, and SSE2 needs one more for the product
#endif
template <class C>
constexpr int kTileColumns = kTileVectors * kLanes<C>;

template <class C>
struct TileArgs {
  const C* const* a;  // row pointers: a[segment * a_pitch + row]
  std::int64_t a_pitch;
  std::int64_t a_offset;  // elements, added to each row pointer
  std::int64_t segments;  // K is cut into segments, each with row pointers of its own
  std::int64_t length;    // of a segment
  const C* b;             // panel [segments * length][vectors * lanes]
  const C* init;          // [rows][vectors * lanes] to add to, row pitch kTileColumns; null for zero
  C* c;                   // where the tile goes
  std::int64_t c_pitch;
  const C* row_bias;     // [rows] or null
  const C* column_bias;  // [vectors * lanes] or null
};

template <class C, int Rows, int Vectors>
CVPERF_INLINE void multiply_tile(const TileArgs<C>& t, std::int64_t row) {
  constexpr int lanes = kLanes<C>;
  Vec<C> sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) sum[r][v] = Vec<C>{};
  const C* b = t.b;
  const std::int64_t length = t.length;
  for (std::int64_t s = 0; s < t.segments; ++s) {
    const C* a[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) a[r] = t.a[s * t.a_pitch + row + r] + t.a_offset;
    for (std::int64_t k = 0; k < length; ++k) {
      Vec<C> column[Vectors];
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) column[v] = load(b + v * lanes);
      b += Vectors * lanes;
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
        const Vec<C> x = broadcast(a[r][k]);
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) sum[r][v] += x * column[v];
      }
    }
  }
  if (t.init) {  // added last: sums of blocks lose fewer bits than one long chain
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[r][v] += load(t.init + (row + r) * kTileColumns<C> + v * lanes);
  }
  if (t.column_bias) {
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      const Vec<C> bias = load(t.column_bias + v * lanes);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) sum[r][v] += bias;
    }
  }
  if (t.row_bias) {
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const Vec<C> bias = broadcast(t.row_bias[row + r]);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[r][v] += bias;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) store(t.c + (row + r) * t.c_pitch + v * lanes, sum[r][v]);
}

// Rows [begin, end) in tiles of exactly `Rows`.
template <class C, int Rows, int Vectors>
void multiply_tiles(const TileArgs<C>& t, std::int64_t begin, std::int64_t end) {
  for (; begin < end; begin += Rows) multiply_tile<C, Rows, Vectors>(t, begin);
}

template <class C, int Vectors>
CVPERF_INLINE void multiply_one(const TileArgs<C>& t, std::int64_t begin, std::int64_t end) {
  switch (end - begin) {
    case 1:
      return multiply_tiles<C, 1, Vectors>(t, begin, end);
    case 2:
      return multiply_tiles<C, 2, Vectors>(t, begin, end);
    case 3:
      return multiply_tiles<C, 3, Vectors>(t, begin, end);
    case 4:
      return multiply_tiles<C, 4, Vectors>(t, begin, end);
#if CVPERF_VECTOR_BYTES >= 32 || defined(__aarch64__)
    case 5:
      return multiply_tiles<C, 5, Vectors>(t, begin, end);
    case 6:
      return multiply_tiles<C, 6, Vectors>(t, begin, end);
#endif
#if CVPERF_VECTOR_BYTES == 64
    case 7:
      return multiply_tiles<C, 7, Vectors>(t, begin, end);
    case 8:
      return multiply_tiles<C, 8, Vectors>(t, begin, end);
#endif
    default:
      return;
  }
}

// All rows: whole tiles, then what is left shared evenly with the last of them, so that no tile is too small to
// hide the latency: 32 rows in tiles of 6 end in 4 + 4 and not in 6 + 2.
template <class C, int Vectors>
void multiply_rows(std::int64_t rows, const TileArgs<C>& t) {
  const std::int64_t left = rows % kTileRows;
  const std::int64_t whole = left && rows > kTileRows ? rows - left - kTileRows : rows - left;
  multiply_tiles<C, kTileRows, Vectors>(t, 0, whole);
  const std::int64_t middle = whole + (rows - whole > kTileRows ? (rows - whole + 1) / 2 : rows - whole);
  multiply_one<C, Vectors>(t, whole, middle);
  multiply_one<C, Vectors>(t, middle, rows);
}

// C[row][0 .. vectors * lanes) for every row; 1 <= vectors <= kTileVectors.
template <class C>
CVPERF_INLINE void multiply(std::int64_t rows, int vectors, const TileArgs<C>& t) {
  switch (vectors) {
    case 1:
      return multiply_rows<C, 1>(rows, t);
    case 2:
      return multiply_rows<C, 2>(rows, t);
#if CVPERF_VECTOR_BYTES == 64
    case 3:
      return multiply_rows<C, 3>(rows, t);
#endif
    default:
      return;
  }
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
