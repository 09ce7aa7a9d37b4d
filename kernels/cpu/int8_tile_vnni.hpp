// Register tile of the INT8 product for AVX-512 VNNI.
//
// vpdpbusd multiplies 4 unsigned bytes of a with 4 signed bytes of b and adds them to an int32 lane, exactly
// (the 16-bit steps do not saturate; the sum wraps). Signed a is shifted by 128 to unsigned, and the
// epilogue takes 128 times b's column sums off again. One quad of a packed panel is one register, so b is
// used as packed. A tile is 6 rows by 4 panels: 24 accumulators, 4 of b, and one broadcast of a.
// Source of the shift: oneDNN's s8s8s32 kernels.
#pragma once
#include "int8_gemm.hpp"
#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

using AElement = std::uint8_t;

constexpr int kTileRows = 6;
constexpr int kTilePanels = 4;
constexpr std::int64_t kBlockQuads = 320;  // 4 panels of a block of b (80 KB) stay in L2
constexpr std::int64_t kBlockRows = 192;
constexpr int kShift = 128;  // what widen_a adds to signed elements

CVPERF_INLINE Vec<std::int32_t> dot_quads(Vec<std::int32_t> sum, std::uint32_t a, Vec<std::int8_t> b) {
#if defined(__AVX512VNNI__)
  return (Vec<std::int32_t>)_mm512_dpbusd_epi32((__m512i)sum, _mm512_set1_epi32(static_cast<int>(a)), (__m512i)b);
#else  // CVPERF_EMULATE_VNNI: the instruction in plain C++, so that tests run this file anywhere
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 4; ++j) sum[i] += static_cast<std::int32_t>((a >> (8 * j)) & 255u) * b[4 * i + j];
  return sum;
#endif
}

template <int R, int P, bool kAdd>
inline __attribute__((noinline)) void tile(const std::uint8_t* a, std::int64_t a_stride, const std::int8_t* b,
                                           std::int64_t panel_stride, std::int64_t quads, std::int32_t* acc,
                                           std::int64_t acc_stride) {
  Vec<std::int32_t> sum[R][P];
  for (int r = 0; r < R; ++r)
    for (int p = 0; p < P; ++p) {
      sum[r][p] = Vec<std::int32_t>{};
      if (kAdd) __builtin_memcpy(&sum[r][p], acc + r * acc_stride + p * kPanelColumns, sizeof sum[r][p]);
    }
  constexpr int kGroups = (R + 2) / 3;
  const std::uint8_t* rows[kGroups];
  for (int g = 0; g < kGroups; ++g) rows[g] = a + 3 * g * a_stride;
  for (std::int64_t q = 0; q < quads; ++q) {
    Vec<std::int8_t> columns[P];
    for (int p = 0; p < P; ++p) __builtin_memcpy(&columns[p], b + p * panel_stride, sizeof columns[p]);
    b += kQuadBytes;
    for (int r = 0; r < R; ++r) {
      std::uint32_t quad;
      __builtin_memcpy(&quad, rows[r / 3] + (r % 3) * a_stride, sizeof quad);
      for (int p = 0; p < P; ++p) sum[r][p] = dot_quads(sum[r][p], quad, columns[p]);
    }
    for (int g = 0; g < kGroups; ++g) rows[g] += 4;
  }
  for (int r = 0; r < R; ++r)
    for (int p = 0; p < P; ++p)
      __builtin_memcpy(acc + r * acc_stride + p * kPanelColumns, &sum[r][p], sizeof sum[r][p]);
}

template <int R, int P>
void run_rows(int rows, bool add, const std::uint8_t* a, std::int64_t a_stride, const std::int8_t* b,
              std::int64_t panel_stride, std::int64_t quads, std::int32_t* acc, std::int64_t acc_stride) {
  if constexpr (R > 1)
    if (rows < R) return run_rows<R - 1, P>(rows, add, a, a_stride, b, panel_stride, quads, acc, acc_stride);
  if (add)
    tile<R, P, true>(a, a_stride, b, panel_stride, quads, acc, acc_stride);
  else
    tile<R, P, false>(a, a_stride, b, panel_stride, quads, acc, acc_stride);
}

void compute(int rows, int panels, bool add, const std::uint8_t* a, std::int64_t a_stride, const std::int8_t* b,
             std::int64_t panel_stride, std::int64_t quads, std::int32_t* acc, std::int64_t acc_stride) {
  switch (panels) {
    case 1:
      return run_rows<kTileRows, 1>(rows, add, a, a_stride, b, panel_stride, quads, acc, acc_stride);
    case 2:
      return run_rows<kTileRows, 2>(rows, add, a, a_stride, b, panel_stride, quads, acc, acc_stride);
    case 3:
      return run_rows<kTileRows, 3>(rows, add, a, a_stride, b, panel_stride, quads, acc, acc_stride);
    default:
      return run_rows<kTileRows, 4>(rows, add, a, a_stride, b, panel_stride, quads, acc, acc_stride);
  }
}

// out[rows][out_stride] = a[rows][count], shifted to unsigned if it is signed, zero padded to whole quads.
template <class T>
void widen_a(const T* a, std::int64_t a_stride, std::int64_t rows, std::int64_t count, std::uint8_t* out,
             std::int64_t out_stride) {
  constexpr std::uint8_t flip = T(-1) < T(0) ? 0x80 : 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    const T* from = a + r * a_stride;
    std::uint8_t* to = out + r * out_stride;
    std::int64_t i = 0;
    for (; i < count; ++i) to[i] = static_cast<std::uint8_t>(from[i]) ^ flip;
    for (; i % 4 != 0; ++i) to[i] = 0;
  }
}

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf
