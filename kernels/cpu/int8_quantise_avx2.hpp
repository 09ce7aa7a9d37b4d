// Sums to bytes from registers of 32 bytes; included by int8_quantise.hpp. A row of a tile is one panel, two vectors.
#pragma once

namespace cvperf {
namespace CVPERF_ISA {
namespace {

// NaN passes, becomes the least integer and then `low`.
CVPERF_INLINE Vec<std::int32_t> rounded_below(Vec<float> value) {
  return (Vec<std::int32_t>)_mm256_cvtps_epi32(_mm256_min_ps(_mm256_set1_ps(1e9f), (__m256)value));
}

// A loop over memory: unrolled into every tile it would fill the instruction cache.
inline __attribute__((noinline)) void activate_each(float* values, int count, const Quantise& to) {
  for (int i = 0; i < count; ++i, values += kLanes<float>)
    store(values, activate<float>(to.activation, load(values)) * to.inverse);
}

// R rows of two vectors of sums become the integers they round to.
template <int R, bool kResidual>
CVPERF_INLINE void round_sums(Vec<std::int32_t> (&sum)[R][2], const Quantise& to) {
#pragma GCC unroll 2
  for (int v = 0; v < 2; ++v) {
    const Vec<float> scale = load(to.scale + v * kColumns), bias = load(to.bias + v * kColumns);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      Vec<float> value = bias;
      if constexpr (kResidual) {
        const std::uint8_t* const from = to.residual + r * to.stride + v * kColumns;
        value = __builtin_convertvector(widened(from), Vec<float>) * to.residual_scale + value;
      }
      value = __builtin_convertvector(sum[r][v], Vec<float>) * scale + value;
      sum[r][v] = (Vec<std::int32_t>)value;
    }
  }
  if (!kResidual && to.activation != Activation::none) {
    alignas(32) float values[R][2][kLanes<float>];
    __builtin_memcpy(values, sum, sizeof sum);
    activate_each(&values[0][0][0], R * 2, to);
    __builtin_memcpy(sum, values, sizeof sum);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) sum[r][v] = rounded_below((Vec<float>)sum[r][v]);
}

// Two rows as bytes, the zero point added, within the limits; the same row twice at the end of an odd count.
CVPERF_INLINE __m256i packed_rows(const Vec<std::int32_t> (&first)[2], const Vec<std::int32_t> (&second)[2],
                                  const Quantise& to) {
  const __m256i zero = _mm256_set1_epi16(static_cast<std::int16_t>(to.zero));
  const __m256i words0 = _mm256_adds_epi16(_mm256_packs_epi32((__m256i)first[0], (__m256i)first[1]), zero);
  const __m256i words1 = _mm256_adds_epi16(_mm256_packs_epi32((__m256i)second[0], (__m256i)second[1]), zero);
  const __m256i low = _mm256_set1_epi8(static_cast<char>(to.low)), high = _mm256_set1_epi8(static_cast<char>(to.high));
  const __m256i bytes = _mm256_min_epu8(_mm256_max_epu8(_mm256_packus_epi16(words0, words1), low), high);
  // Packing goes by 128 bits: each of them has four bytes of every vector.
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  return _mm256_permutevar8x32_epi32(_mm256_xor_si256(bytes, _mm256_set1_epi8(static_cast<char>(to.flip))), order);
}

template <int R, int V, bool kResidual>
CVPERF_INLINE void quantise(Vec<std::int32_t> (&sum)[R][V], const Quantise& to) {
  static_assert(V == 2, "one panel");
  round_sums<R, kResidual>(sum, to);
#pragma GCC unroll 4
  for (int r = 0; r < R; r += 2) {
    const __m256i bytes = packed_rows(sum[r], sum[r + 1 < R ? r + 1 : r], to);
    std::uint8_t* const out = to.out + r * to.stride;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(bytes));
    if (r + 1 < R) _mm_storeu_si128(reinterpret_cast<__m128i*>(out + to.stride), _mm256_extracti128_si256(bytes, 1));
  }
}

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf
