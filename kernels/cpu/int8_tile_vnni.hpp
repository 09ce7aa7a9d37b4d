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

#if defined(__AVX512VNNI__)
constexpr bool kQuantises = true;

// Four vectors of 16 integers, saturated to bytes after `zero` is added, one after the other.
CVPERF_INLINE __m512i packed_bytes(const Vec<std::int32_t> (&v)[4], __m512i zero) {
  const __m512i first = _mm512_adds_epi16(_mm512_packs_epi32((__m512i)v[0], (__m512i)v[1]), zero);
  const __m512i second = _mm512_adds_epi16(_mm512_packs_epi32((__m512i)v[2], (__m512i)v[3]), zero);
  // Packing goes lane by lane of 128 bits, so that each of these has four bytes of every vector.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, _mm512_packus_epi16(first, second));
}

template <int P>
CVPERF_INLINE void store_panels(std::uint8_t* out, __m512i bytes) {
  if constexpr (P == 4) return _mm512_storeu_si512(out, bytes);
  if constexpr (P == 1) return _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_castsi512_si128(bytes));
  if constexpr (P >= 2) _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_castsi512_si256(bytes));
  if constexpr (P == 3)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * kPanelColumns), _mm512_extracti32x4_epi32(bytes, 2));
}

// Few instructions count here: a layer of 64 channels makes 16 products for each of these vectors.
template <int R, int P, bool kResidual>
CVPERF_INLINE void quantise(const Vec<std::int32_t> (&sum)[R][P], const Quantise& to) {
  const __m512i zero = _mm512_set1_epi16(static_cast<std::int16_t>(to.zero));
  const __m512i low = _mm512_set1_epi8(static_cast<char>(to.low)), high = _mm512_set1_epi8(static_cast<char>(to.high));
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(to.flip));
  const __m512 most = _mm512_set1_ps(1e9f), residual_scale = _mm512_set1_ps(to.residual_scale);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    std::uint8_t* const out = to.out + r * to.stride;
    Vec<std::int32_t> rounded[4] = {};
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      __m512 value = _mm512_loadu_ps(to.bias + p * kPanelColumns);
      if constexpr (kResidual) {
        const std::uint8_t* const from = to.residual + r * to.stride + p * kPanelColumns;
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
        value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)), residual_scale, value);
      }
      const __m512 exact = _mm512_cvtepi32_ps((__m512i)sum[r][p]);
      value = _mm512_fmadd_ps(exact, _mm512_loadu_ps(to.scale + p * kPanelColumns), value);
      // NaN passes, becomes the least integer and then `low`.
      rounded[p] = (Vec<std::int32_t>)_mm512_cvtps_epi32(_mm512_min_ps(most, value));
    }
    const __m512i bytes = _mm512_min_epu8(_mm512_max_epu8(packed_bytes(rounded, zero), low), high);
    store_panels<P>(out, _mm512_xor_si512(bytes, flip));
  }
}
#else
constexpr bool kQuantises = false;
template <int R, int P, bool kResidual>
CVPERF_INLINE void quantise(const Vec<std::int32_t> (&)[R][P], const Quantise&) {}
#endif

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
  if (kQuantises && t.quantise.out) {
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
