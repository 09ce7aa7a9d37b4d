// 8-bit integers in the lanes of a vector of int32: widened as they are loaded, rounded and narrowed before they are
// stored. The compiler's own conversions go lane by lane.
#pragma once
#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {

template <class T>
constexpr bool kSigned = T(-1) < T(0);

// One vector's lanes as bytes.
template <class T>
struct BytesOf {
  typedef T type __attribute__((vector_size(kLanes<float>)));
};
template <class T>
using Bytes = typename BytesOf<T>::type;

// Half to even. No lane is beyond 2^22.
CVPERF_INLINE Vec<std::int32_t> rounded(Vec<float> v) {
  v += broadcast(12582912.0f);  // 1.5 * 2^23: the sum rounds to an integer, which sits in its low bits
  return (Vec<std::int32_t>)v - 0x4b400000;
}

// Integers that T can hold.
template <class T>
CVPERF_INLINE Bytes<T> narrowed(Vec<std::int32_t> integers) {
#if defined(__AVX512F__) && CVPERF_VECTOR_BYTES == 64
  return (Bytes<T>)_mm512_cvtepi32_epi8((__m512i)integers);
#elif defined(__AVX2__) && CVPERF_VECTOR_BYTES == 32
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128((__m256i)integers), _mm256_extracti128_si256((__m256i)integers, 1));
  const __m128i bytes = kSigned<T> ? _mm_packs_epi16(words, words) : _mm_packus_epi16(words, words);
  Bytes<T> narrow;
  __builtin_memcpy(&narrow, &bytes, sizeof narrow);
  return narrow;
#else
  return __builtin_convertvector(integers, Bytes<T>);
#endif
}

// kLanes<float> bytes.
template <class T>
CVPERF_INLINE Vec<std::int32_t> widened(const T* from) {
#if defined(__AVX512F__) && CVPERF_VECTOR_BYTES == 64
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return (Vec<std::int32_t>)(kSigned<T> ? _mm512_cvtepi8_epi32(bytes) : _mm512_cvtepu8_epi32(bytes));
#elif defined(__AVX2__) && CVPERF_VECTOR_BYTES == 32
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return (Vec<std::int32_t>)(kSigned<T> ? _mm256_cvtepi8_epi32(bytes) : _mm256_cvtepu8_epi32(bytes));
#else
  Vec<std::int32_t> wide;
  for (int i = 0; i < kLanes<float>; ++i) wide[i] = from[i];
  return wide;
#endif
}

// The first `count` of them; the others read as zero.
template <class T>
CVPERF_INLINE Vec<std::int32_t> widened_partial(const T* from, int count) {
  T lanes[kLanes<float>] = {};
  __builtin_memcpy(lanes, from, static_cast<std::size_t>(count));
  return widened(lanes);
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
