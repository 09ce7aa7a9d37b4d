// The step of every INT8 sum: quads of a times quads of b, in the form of the instruction set (AElement says which).
#pragma once
#include "int8_gemm.hpp"
#include "int8_rows.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

#if defined(CVPERF_BYTE_DOT)

constexpr int kColumns = kVectorBytes / 4;  // b's columns in a vector of quads
constexpr int kVectorsPerPanel = static_cast<int>(kPanelColumns) / kColumns;

CVPERF_INLINE Vec<std::int32_t> dot_quads(Vec<std::int32_t> sum, Vec<std::uint8_t> a, Vec<std::int8_t> b) {
#if defined(__AVX512VNNI__)
  return (Vec<std::int32_t>)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif defined(__AVXVNNI__)
  return (Vec<std::int32_t>)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)a, (__m256i)b);
#elif defined(CVPERF_PAIRS_FIT_INT16)  // called for such b only: vpmaddubsw saturates sums of pairs at 16 bits
  const __m256i pairs = _mm256_maddubs_epi16((__m256i)a, (__m256i)b);
  return sum + (Vec<std::int32_t>)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#else  // CVPERF_EMULATE_VNNI: the instruction in plain C++, so that tests run this file anywhere
  for (int i = 0; i < kColumns; ++i)
    for (int j = 0; j < 4; ++j) sum[i] += static_cast<std::int32_t>(a[4 * i + j]) * b[4 * i + j];
  return sum;
#endif
}

#else

constexpr int kColumns = kVectorBytes / 8;  // b's columns in a vector of int16
constexpr int kVectorsPerPanel = static_cast<int>(kPanelColumns) / kColumns;

CVPERF_INLINE Vec<std::int32_t> multiply_pairs(Vec<std::int16_t> a, Vec<std::int16_t> b) {
#if defined(__AVX512BW__) && CVPERF_VECTOR_BYTES == 64
  return (Vec<std::int32_t>)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__) && CVPERF_VECTOR_BYTES == 32
  return (Vec<std::int32_t>)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__) && CVPERF_VECTOR_BYTES == 16
  return (Vec<std::int32_t>)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  const Vec<std::int32_t> x = (Vec<std::int32_t>)a, y = (Vec<std::int32_t>)b;
  return ((x << 16) >> 16) * ((y << 16) >> 16) + (x >> 16) * (y >> 16);
#endif
}

CVPERF_INLINE Vec<std::int16_t> load_b(const std::int8_t* p) {
#if defined(__AVX512BW__) && CVPERF_VECTOR_BYTES == 64
  return (Vec<std::int16_t>)_mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__AVX2__) && CVPERF_VECTOR_BYTES == 32  // GCC splits the conversion below into halves
  return (Vec<std::int16_t>)_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  typedef std::int8_t Narrow __attribute__((vector_size(CVPERF_VECTOR_BYTES / 2)));
  Narrow narrow;
  __builtin_memcpy(&narrow, p, sizeof narrow);
  return __builtin_convertvector(narrow, Vec<std::int16_t>);
#endif
}

// out[2 * kColumns] = init + neighbouring lanes of two vectors added.
CVPERF_INLINE void store_pair_sums(std::int32_t* out, const std::int32_t* init, Vec<std::int32_t> low,
                                   Vec<std::int32_t> high) {
#if defined(__AVX2__) && CVPERF_VECTOR_BYTES == 32
  Vec<std::int32_t> before;
  __builtin_memcpy(&before, init, sizeof before);
  const Vec<std::int32_t> sums =
      before + (Vec<std::int32_t>)_mm256_permute4x64_epi64(_mm256_hadd_epi32((__m256i)low, (__m256i)high), 0xd8);
  __builtin_memcpy(out, &sums, sizeof sums);
#else
  typedef std::uint32_t Half __attribute__((vector_size(CVPERF_VECTOR_BYTES / 2)));
  const Vec<std::uint64_t> x = (Vec<std::uint64_t>)low, y = (Vec<std::uint64_t>)high;
  Half sums[2];
  __builtin_memcpy(sums, init, sizeof sums);
  sums[0] += __builtin_convertvector(x + (x >> 32), Half);
  sums[1] += __builtin_convertvector(y + (y >> 32), Half);
  __builtin_memcpy(out, sums, sizeof sums);
#endif
}

#endif

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf
