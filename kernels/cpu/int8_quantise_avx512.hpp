// Sums to bytes from registers of 64 bytes; included by int8_quantise.hpp.
#pragma once

namespace cvperf {
namespace CVPERF_ISA {
namespace {

// NaN passes, becomes the least integer and then `low`.
CVPERF_INLINE Vec<std::int32_t> rounded_below(__m512 value) {
  return (Vec<std::int32_t>)_mm512_cvtps_epi32(_mm512_min_ps(_mm512_set1_ps(1e9f), value));
}

// 1 / (1 + e^-x) to a relative 3e-6, which no byte shows: 2^f by its Taylor series, and one step of Newton's method.
// Beyond -80 it is that of -80, 2e-35.
CVPERF_INLINE __m512 sigmoid_for_bytes(__m512 x) {
  const __m512 t = _mm512_mul_ps(_mm512_max_ps(x, _mm512_set1_ps(-80.0f)), _mm512_set1_ps(-1.44269504f));
  const __m512 n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = _mm512_sub_ps(t, n);
  __m512 p = _mm512_fmadd_ps(f, _mm512_set1_ps(1.33335581e-3f), _mm512_set1_ps(9.61812911e-3f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.55041087e-2f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.40226507e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.93147181e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
  const __m512 d = _mm512_add_ps(_mm512_scalef_ps(p, n), _mm512_set1_ps(1.0f));
  const __m512 r = _mm512_rcp14_ps(d);
  return _mm512_mul_ps(r, _mm512_fnmadd_ps(d, r, _mm512_set1_ps(2.0f)));
}

template <class Function>
CVPERF_INLINE void round_each(float* values, int count, float inverse, Function function) {
  for (int i = 0; i < count; ++i, values += kLanes<float>) {
    const __m512 value = _mm512_mul_ps(function(_mm512_loadu_ps(values)), _mm512_set1_ps(inverse));
    const Vec<std::int32_t> rounded = rounded_below(value);
    __builtin_memcpy(values, &rounded, sizeof rounded);
  }
}

// `count` vectors become the integers that their activation rounds to, where they are. A loop over memory: unrolled
// into every tile it would fill the instruction cache.
inline __attribute__((noinline)) void round_activated(float* values, int count, const Quantise& to) {
  switch (to.activation) {
    case Activation::silu:
      return round_each(values, count, to.inverse, [](__m512 x) { return _mm512_mul_ps(x, sigmoid_for_bytes(x)); });
    case Activation::sigmoid:
      return round_each(values, count, to.inverse, [](__m512 x) { return sigmoid_for_bytes(x); });
    default:
      return round_each(values, count, to.inverse,
                        [&to](__m512 x) { return (__m512)activate<float>(to.activation, (Vec<float>)x); });
  }
}

// R rows of P vectors of sums become the integers they round to. Column by column: its scale and bias are loaded once.
template <int R, int P, bool kResidual>
CVPERF_INLINE void round_sums(Vec<std::int32_t> (&sum)[R][P], const Quantise& to) {
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    const __m512 scale = _mm512_loadu_ps(to.scale + p * kPanelColumns);
    const __m512 bias = _mm512_loadu_ps(to.bias + p * kPanelColumns);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      __m512 value = bias;
      if constexpr (kResidual) {
        const std::uint8_t* const from = to.residual + r * to.stride + p * kPanelColumns;
        const __m512i added = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
        value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(added), _mm512_set1_ps(to.residual_scale), value);
      }
      value = _mm512_fmadd_ps(_mm512_cvtepi32_ps((__m512i)sum[r][p]), scale, value);
      sum[r][p] = (Vec<std::int32_t>)value;
    }
  }
  if (!kResidual && to.activation != Activation::none) {
    alignas(64) float values[R][P][kLanes<float>];
    __builtin_memcpy(values, sum, sizeof sum);
    round_activated(&values[0][0][0], R * P, to);
    __builtin_memcpy(sum, values, sizeof sum);
    return;
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) sum[r][p] = rounded_below((__m512)sum[r][p]);
}

// Up to four vectors of integers as bytes, the zero point added, within the limits. Packing goes by 128 bits: of these,
// each of the result has the same four bytes of every vector, vector after vector.
template <int P>
CVPERF_INLINE __m512i pack_by_lanes(const Vec<std::int32_t> (&integers)[P], const Quantise& to) {
  __m512i rounded[4] = {};
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) rounded[p] = (__m512i)integers[p];
  const __m512i zero = _mm512_set1_epi16(static_cast<std::int16_t>(to.zero));
  const __m512i first = _mm512_adds_epi16(_mm512_packs_epi32(rounded[0], rounded[1]), zero);
  const __m512i second = _mm512_adds_epi16(_mm512_packs_epi32(rounded[2], rounded[3]), zero);
  const __m512i low = _mm512_set1_epi8(static_cast<char>(to.low)), high = _mm512_set1_epi8(static_cast<char>(to.high));
  const __m512i bytes = _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(first, second), low), high);
  return _mm512_xor_si512(bytes, _mm512_set1_epi8(static_cast<char>(to.flip)));
}

template <int P>
CVPERF_INLINE void store_panels(std::uint8_t* out, __m512i bytes) {
  if constexpr (P == 4) return _mm512_storeu_si512(out, bytes);
  if constexpr (P == 1) return _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_castsi512_si128(bytes));
  if constexpr (P >= 2) _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_castsi512_si256(bytes));
  if constexpr (P == 3)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * kPanelColumns), _mm512_extracti32x4_epi32(bytes, 2));
}

template <int R, int P, bool kResidual>
CVPERF_INLINE void quantise(Vec<std::int32_t> (&sum)[R][P], const Quantise& to) {
  round_sums<R, P, kResidual>(sum, to);
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
    store_panels<P>(to.out + r * to.stride, _mm512_permutexvar_epi32(order, pack_by_lanes(sum[r], to)));
}

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf
