// Register tile of the INT8 product for processors with a byte dot product; included by int8_tile.hpp.
//
// vpdpbusd multiplies 4 unsigned bytes of a with 4 signed bytes of b and adds them to an int32 lane, exactly
// (the 16-bit steps do not saturate; the sum wraps). Signed a is shifted by 128 to unsigned, and what the sums
// start from takes 128 times b's column sums off. One quad of a packed panel is one register (AVX-512) or two, so b
// is used as packed. With AVX-512 a tile is 6 rows by 4 panels: 24 accumulators, 4 of b, and one broadcast of a, so
// 10 loads for 24 products, where Zen 4 makes one of each a cycle; 24 chains cover the latency of 4. With 16
// registers it is 6 rows by one panel.
//
// Plain AVX2 has vpmaddubsw, whose sums of two products saturate at 16 bits: never on weights of 7 bits, and this
// file is compiled for those too (CVPERF_PAIRS_FIT_INT16). Three instructions then make 32 products, where
// int8_tile_madd.hpp needs four; 4 rows leave registers for what lies between them.
// Source of the shift: oneDNN's s8s8s32 kernels.
#pragma once

namespace cvperf {
namespace CVPERF_ISA {
namespace {

#if CVPERF_VECTOR_BYTES == 64
constexpr int kTilePanels = 4;
#else
constexpr int kTilePanels = 1;
#endif
#if defined(CVPERF_PAIRS_FIT_INT16)
constexpr int kTileRows = 4;
#else
constexpr int kTileRows = 6;
#endif
constexpr std::int64_t kBlockQuads =
    1024 / (CVPERF_VECTOR_BYTES == 64 ? 1 : 4);   // 4 panels (256 KB) stay in L2, 1 in L1
constexpr std::int64_t kBlockBytes = 320 * 1024;  // of a, which stay in L2 as well
constexpr double kWorkOfThread = 5e5;             // multiply-adds that pay for a thread: about 2 microseconds

CVPERF_INLINE void fetch_to_write(const std::int32_t* line) {
#if defined(__AVX512VNNI__)
  asm volatile("prefetchw %0" : : "m"(*line));  // every processor with AVX-512 has it; GCC wants a flag for it
#else
  __builtin_prefetch(line, 1);
#endif
}

// R rows by V vectors of columns.
template <int R, int V>
inline __attribute__((noinline)) void tile(const Tile& t) {
  Vec<std::int32_t> sum[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v)
      __builtin_memcpy(&sum[r][v], t.init + r * t.init_stride + v * kColumns, sizeof sum[r][v]);
  if (t.target) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < V; v += kVectorsPerPanel) fetch_to_write(t.target + r * t.target_stride + v * kColumns);
  }
  constexpr int kGroups = (R + 2) / 3;  // of three rows: x86 addresses reach p, p + stride and p + 2 * stride
  const std::uint8_t* rows[kGroups];
#pragma GCC unroll 8
  for (int g = 0; g < kGroups; ++g) rows[g] = t.a + 3 * g * t.a_stride;
  const std::int8_t* b = t.b;
  const std::int64_t quads = t.quads, a_stride = t.a_stride, panel_stride = t.panel_stride;
  for (std::int64_t q = 0; q < quads; ++q) {
    Vec<std::int8_t> columns[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const std::int8_t* from = b + v / kVectorsPerPanel * panel_stride + v % kVectorsPerPanel * kVectorBytes;
      __builtin_memcpy(&columns[v], from, sizeof columns[v]);
    }
    b += kQuadBytes;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      std::int32_t quad;
      __builtin_memcpy(&quad, rows[r / 3] + (r % 3) * a_stride, sizeof quad);
      const Vec<std::uint8_t> x = (Vec<std::uint8_t>)(Vec<std::int32_t>{} + quad);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[r][v] = dot_quads(sum[r][v], x, columns[v]);
    }
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) rows[g] += 4;
  }
  if (t.quantise.out) {
    if (t.quantise.residual) return quantise<R, V, true>(sum, t.quantise);
    return quantise<R, V, false>(sum, t.quantise);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) __builtin_memcpy(t.out + r * t.out_stride + v * kColumns, &sum[r][v], sizeof sum[r][v]);
}

template <int R, int P>
void compute_rows(int rows, const Tile& t) {
  if constexpr (R > 1)
    if (rows < R) return compute_rows<R - 1, P>(rows, t);
  tile<R, P * kVectorsPerPanel>(t);
}

// The tile of `rows` by `panels`.
template <int P = kTilePanels>
void compute(int rows, int panels, const Tile& t) {
  if constexpr (P > 1)
    if (panels < P) return compute<P - 1>(rows, panels, t);
  compute_rows<kTileRows, P>(rows, t);
}

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf
