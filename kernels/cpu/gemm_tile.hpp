// The register tile that every dense convolution here ends in: C[rows][columns] += A[rows][k] * B[k][columns].
//
// Columns are vectors of B, read from a packed panel; rows are broadcast from A through one pointer a row, so A
// need not be packed: the rows may be pixels of a channels-last image or rows of a weight (the indirection is
// XNNPACK's idea, Dukhan 2019, "The Indirect Convolution Algorithm"). The tile is as large as the registers
// allow (Goto and van de Geijn 2008): it needs at least 8 accumulators in flight to hide the latency of FMA.
#pragma once
#include "simd.hpp"
#include "streaming.hpp"

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

// Two bfloat16 of consecutive k, multiplied and added to one float32 lane by one instruction.
struct Bf16Pair {
  std::uint32_t bits;
};

// How the tile computes with elements of type A: Sum is what it accumulates, kTerms how many k an element holds.
template <class A>
struct Arithmetic {
  using Sum = A;
  static constexpr int kTerms = 1;
  static CVPERF_INLINE Vec<A> spread(A x) { return broadcast(x); }
  static CVPERF_INLINE Vec<A> columns(const A* b) { return load(b); }
  static CVPERF_INLINE Vec<A> add(Vec<A> sum, Vec<A> x, Vec<A> column) { return sum + x * column; }
};
template <>
struct Arithmetic<Bf16Pair> {
  using Sum = float;
  using Pairs = Vec<std::uint32_t>;
  static constexpr int kTerms = 2;
  static CVPERF_INLINE Pairs spread(Bf16Pair x) { return Pairs{} + x.bits; }
  static CVPERF_INLINE Pairs columns(const Bf16Pair* b) {
    Pairs v;
    __builtin_memcpy(&v, b, sizeof v);
    return v;
  }
  static CVPERF_INLINE Vec<float> add(Vec<float> sum, Pairs x, Pairs column) {
#if defined(__AVX512BF16__) && CVPERF_VECTOR_BYTES == 64
    return (Vec<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x, (__m512bh)column);
#else  // the same sum where there is no such instruction, so that tests run it anywhere
    const Pairs high = Pairs{} + 0xffff0000u;
    return sum + (Vec<float>)(x << 16) * (Vec<float>)(column << 16) +
           (Vec<float>)(x & high) * (Vec<float>)(column & high);
#endif
  }
};
template <class A>
using SumOf = typename Arithmetic<A>::Sum;

template <class A>
struct TileArgs {
  using C = SumOf<A>;
  const A* const* a;  // row pointers: a[segment * a_pitch + row]
  std::int64_t a_pitch;
  std::int64_t a_offset;  // elements, added to each row pointer
  std::int64_t segments;  // K is cut into segments, each with row pointers of its own
  std::int64_t length;    // of a segment, in elements of A
  const A* b;             // panel [segments * length][vectors * lanes]
  const C* init;          // [rows][vectors * lanes] to add to, row pitch kTileColumns; null for zero
  C* c;                   // where the tile goes
  std::int64_t c_pitch;
  const C* row_bias;     // [rows] or null
  const C* column_bias;  // [vectors * lanes] or null
  const C* residual;     // added after the biases, where c has the same; or null
  bool clamp;            // results are kept within [low, high]; NaN stays NaN
  C low, high;
  bool past_caches;  // float32 only: c, and its rows, are aligned
};

template <class A, int Rows, int Vectors>
CVPERF_INLINE void multiply_tile(const TileArgs<A>& t, std::int64_t row) {
  using Op = Arithmetic<A>;
  using C = SumOf<A>;
  constexpr int lanes = kLanes<C>;
  Vec<C> sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) sum[r][v] = Vec<C>{};
  if (t.residual) {  // they arrive while the products are made
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) __builtin_prefetch(t.residual + (row + r) * t.c_pitch + v * lanes);
  }
  const A* b = t.b;
  const std::int64_t length = t.length;
  for (std::int64_t s = 0; s < t.segments; ++s) {
    const A* a[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) a[r] = t.a[s * t.a_pitch + row + r] + t.a_offset;
    for (std::int64_t k = 0; k < length; ++k) {
      decltype(Op::columns(b)) column[Vectors];
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) column[v] = Op::columns(b + v * lanes);
      b += Vectors * lanes;
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
        const auto x = Op::spread(a[r][k]);
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) sum[r][v] = Op::add(sum[r][v], x, column[v]);
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
  if (t.residual) {
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[r][v] += load(t.residual + (row + r) * t.c_pitch + v * lanes);
  }
  if (t.clamp) {
    const Vec<C> low = broadcast(t.low), high = broadcast(t.high);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[r][v] = min(high, max(low, sum[r][v]));
  }
  if constexpr (sizeof(C) == sizeof(float)) {
    if (t.past_caches) {
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) store_past_caches(t.c + (row + r) * t.c_pitch + v * lanes, sum[r][v]);
      return;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) store(t.c + (row + r) * t.c_pitch + v * lanes, sum[r][v]);
}

// Rows [begin, end) in tiles of exactly `Rows`.
template <class A, int Rows, int Vectors>
void multiply_tiles(const TileArgs<A>& t, std::int64_t begin, std::int64_t end) {
  for (; begin < end; begin += Rows) multiply_tile<A, Rows, Vectors>(t, begin);
}

template <class A, int Vectors>
CVPERF_INLINE void multiply_one(const TileArgs<A>& t, std::int64_t begin, std::int64_t end) {
  switch (end - begin) {
    case 1:
      return multiply_tiles<A, 1, Vectors>(t, begin, end);
    case 2:
      return multiply_tiles<A, 2, Vectors>(t, begin, end);
    case 3:
      return multiply_tiles<A, 3, Vectors>(t, begin, end);
    case 4:
      return multiply_tiles<A, 4, Vectors>(t, begin, end);
#if CVPERF_VECTOR_BYTES >= 32 || defined(__aarch64__)
    case 5:
      return multiply_tiles<A, 5, Vectors>(t, begin, end);
    case 6:
      return multiply_tiles<A, 6, Vectors>(t, begin, end);
#endif
#if CVPERF_VECTOR_BYTES == 64
    case 7:
      return multiply_tiles<A, 7, Vectors>(t, begin, end);
    case 8:
      return multiply_tiles<A, 8, Vectors>(t, begin, end);
#endif
    default:
      return;
  }
}

// All rows: whole tiles, then what is left shared evenly with the last of them, so that no tile is too small to
// hide the latency: 32 rows in tiles of 6 end in 4 + 4 and not in 6 + 2.
template <class A, int Vectors>
void multiply_rows(std::int64_t rows, const TileArgs<A>& t) {
  const std::int64_t left = rows % kTileRows;
  const std::int64_t whole = left && rows > kTileRows ? rows - left - kTileRows : rows - left;
  multiply_tiles<A, kTileRows, Vectors>(t, 0, whole);
  const std::int64_t middle = whole + (rows - whole > kTileRows ? (rows - whole + 1) / 2 : rows - whole);
  multiply_one<A, Vectors>(t, whole, middle);
  multiply_one<A, Vectors>(t, middle, rows);
}

// C[row][0 .. vectors * lanes) for every row; 1 <= vectors <= kTileVectors.
template <class A>
CVPERF_INLINE void multiply(std::int64_t rows, int vectors, const TileArgs<A>& t) {
  switch (vectors) {
    case 1:
      return multiply_rows<A, 1>(rows, t);
    case 2:
      return multiply_rows<A, 2>(rows, t);
#if CVPERF_VECTOR_BYTES == 64
    case 3:
      return multiply_rows<A, 3>(rows, t);
#endif
    default:
      return;
  }
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
