// Rows of a in the element type of the register tiles.
#pragma once
#include "byte_lanes.hpp"

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__) || defined(CVPERF_EMULATE_VNNI) || defined(CVPERF_PAIRS_FIT_INT16)
#define CVPERF_BYTE_DOT  // tiles multiply unsigned bytes (int8_tile_bytes.hpp), else int16 (int8_tile_madd.hpp)
#endif

namespace cvperf {
namespace CVPERF_ISA {

#if defined(CVPERF_BYTE_DOT)
using AElement = std::uint8_t;
constexpr int kShift = 128;  // what widen() adds to signed elements
#else
using AElement = std::int16_t;
constexpr int kShift = 0;
#endif
constexpr std::int64_t kOvershoot = 64;  // elements that widen() may write past the end of a run

// 16 elements, shifted by kShift if T is signed.
template <class T, class Bytes>
CVPERF_INLINE void widen_bytes(Bytes bytes, AElement* to) {
  static_assert(sizeof bytes == 16, "16 elements");
#if defined(CVPERF_BYTE_DOT)
  typedef std::uint8_t Flipped __attribute__((vector_size(16)));
  const Flipped flipped = (Flipped)bytes ^ static_cast<std::uint8_t>(kSigned<T> ? 0x80 : 0);
  __builtin_memcpy(to, &flipped, sizeof flipped);
#else
  typedef std::int16_t Wide __attribute__((vector_size(32)));
#if defined(__AVX2__)
  const Wide wide = (Wide)(kSigned<T> ? _mm256_cvtepi8_epi16((__m128i)bytes) : _mm256_cvtepu8_epi16((__m128i)bytes));
#else
  typedef T Narrow __attribute__((vector_size(16)));
  const Wide wide = __builtin_convertvector((Narrow)bytes, Wide);
#endif
  __builtin_memcpy(to, &wide, sizeof wide);
#endif
}

// to[i] = from[i], i < count, shifted by kShift if T is signed. Reads nothing else, and writes whole vectors.
template <class T>
CVPERF_INLINE void widen(const T* from, std::int64_t count, AElement* to) {
#if defined(CVPERF_BYTE_DOT)
  typedef std::uint8_t Bytes __attribute__((vector_size(64)));
  const Bytes flip = Bytes{} + static_cast<std::uint8_t>(kSigned<T> ? 0x80 : 0);
  std::int64_t i = 0;
  for (; i + 64 <= count; i += 64) {
    Bytes bytes;
    __builtin_memcpy(&bytes, from + i, sizeof bytes);
    bytes ^= flip;
    __builtin_memcpy(to + i, &bytes, sizeof bytes);
  }
  if (i == count) return;
#if defined(__AVX512BW__)
  Bytes bytes = (Bytes)_mm512_maskz_loadu_epi8(~0ull >> (64 - (count - i)), from + i);
#else
  Bytes bytes{};
  __builtin_memcpy(&bytes, from + i, static_cast<std::size_t>(count - i));
#endif
  bytes ^= flip;
  __builtin_memcpy(to + i, &bytes, sizeof bytes);
#else
  typedef T Narrow __attribute__((vector_size(16)));
  for (std::int64_t i = 0; i < count; i += 16) {
    Narrow narrow{};
    if (count - i >= 16)
      __builtin_memcpy(&narrow, from + i, sizeof narrow);
    else
      __builtin_memcpy(&narrow, from + i, static_cast<std::size_t>(count - i));
    widen_bytes<T>(narrow, to + i);
  }
#endif
}

// The same for at most kShortRun elements.
constexpr std::int64_t kShortRun = 32;
template <class T>
CVPERF_INLINE void widen_short(const T* from, std::int64_t count, AElement* to) {
#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  const __m256i bytes = _mm256_maskz_loadu_epi8(~0u >> (32 - count), from);
  const __m256i flip = _mm256_set1_epi8(static_cast<char>(kSigned<T> ? 0x80 : 0));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_xor_si256(bytes, flip));
#else
  widen(from, count, to);
#endif
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
