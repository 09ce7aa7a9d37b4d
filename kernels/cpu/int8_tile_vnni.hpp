// Register tile of the INT8 product for AVX-512 VNNI; included by int8_tile.hpp.
//
// vpdpbusd multiplies 4 unsigned bytes of a with 4 signed bytes of b and adds them to an int32 lane, exactly
// (the 16-bit steps do not saturate; the sum wraps). Signed a is shifted by 128 to unsigned, and what the sums
// start from takes 128 times b's column sums off. One quad of a packed panel is one register, so b is used as
// packed. A tile is 6 rows by 4 panels: 24 accumulators, 4 of b, and one broadcast of a, so 10 loads for 24
// products, where Zen 4 makes one of each a cycle; 24 chains cover the latency of 4.
// Source of the shift: oneDNN's s8s8s32 kernels.
#pragma once

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr int kTileRows = 6;
constexpr int kTilePanels = 4;
constexpr std::int64_t kBlockQuads = 1024;        // 4 panels of a block of b (256 KB) stay in L2
constexpr std::int64_t kBlockBytes = 320 * 1024;  // of a, which stay in L2 as well
constexpr double kWorkOfThread = 5e5;             // multiply-adds that pay for a thread: about 2 microseconds

CVPERF_INLINE void fetch_to_write(const std::int32_t* line) {
#if defined(__AVX512VNNI__)
  asm volatile("prefetchw %0" : : "m"(*line));  // every processor with AVX-512 has it; GCC wants a flag for it
#else
  __builtin_prefetch(line, 1);
#endif
}

template <int R, int P>
inline __attribute__((noinline)) void tile(const Tile& t) {
  Vec<std::int32_t> sum[R][P];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
      __builtin_memcpy(&sum[r][p], t.init + r * t.init_stride + p * kPanelColumns, sizeof sum[r][p]);
  if (t.target) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) fetch_to_write(t.target + r * t.target_stride + p * kPanelColumns);
  }
  constexpr int kGroups = (R + 2) / 3;  // of three rows: x86 addresses reach p, p + stride and p + 2 * stride
  const std::uint8_t* rows[kGroups];
#pragma GCC unroll 8
  for (int g = 0; g < kGroups; ++g) rows[g] = t.a + 3 * g * t.a_stride;
  const std::int8_t* b = t.b;
  const std::int64_t quads = t.quads, a_stride = t.a_stride, panel_stride = t.panel_stride;
  for (std::int64_t q = 0; q < quads; ++q) {
    Vec<std::int8_t> columns[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) __builtin_memcpy(&columns[p], b + p * panel_stride, sizeof columns[p]);
    b += kQuadBytes;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      std::int32_t quad;
      __builtin_memcpy(&quad, rows[r / 3] + (r % 3) * a_stride, sizeof quad);
      const Vec<std::uint8_t> x = (Vec<std::uint8_t>)(Vec<std::int32_t>{} + quad);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) sum[r][p] = dot_quads(sum[r][p], x, columns[p]);
    }
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) rows[g] += 4;
  }
  if (t.quantise.out) {
    if (t.quantise.residual) return quantise<R, P, true>(sum, t.quantise);
    return quantise<R, P, false>(sum, t.quantise);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
      __builtin_memcpy(t.out + r * t.out_stride + p * kPanelColumns, &sum[r][p], sizeof sum[r][p]);
}

template <int R, int P>
void compute_rows(int rows, const Tile& t) {
  if constexpr (R > 1)
    if (rows < R) return compute_rows<R - 1, P>(rows, t);
  tile<R, P>(t);
}

// The tile of `rows` by `panels`.
void compute(int rows, int panels, const Tile& t) {
  switch (panels) {
    case 1:
      return compute_rows<kTileRows, 1>(rows, t);
    case 2:
      return compute_rows<kTileRows, 2>(rows, t);
    case 3:
      return compute_rows<kTileRows, 3>(rows, t);
    default:
      return compute_rows<kTileRows, 4>(rows, t);
  }
}

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf
