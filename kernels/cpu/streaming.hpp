// Stores past the caches, for outputs larger than those: a plain store first reads the line that it then overwrites.
#pragma once
#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {

// From this size of input and output together on: three quarters of an L3 of 32 MB, so that little of the output would
// still be there when the next layer reads it.
constexpr std::int64_t kPastCachesBytes = 24 << 20;

// `to` is aligned to a vector.
CVPERF_INLINE void store_past_caches(float* to, Vec<float> v) {
#if defined(__AVX512F__) && CVPERF_VECTOR_BYTES == 64
  _mm512_stream_ps(to, (__m512)v);
#elif defined(__AVX2__) && CVPERF_VECTOR_BYTES == 32
  _mm256_stream_ps(to, (__m256)v);
#elif defined(__SSE2__) && CVPERF_VECTOR_BYTES == 16
  _mm_stream_ps(to, (__m128)v);
#else
  store(to, v);
#endif
}

// For each thread at its end: streaming stores are not ordered with what reads them next.
CVPERF_INLINE void settle_streams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

CVPERF_INLINE bool vector_aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % kVectorBytes == 0; }

// Copies `count` elements of any alignment.
inline void copy_past_caches(const float* from, std::int64_t count, float* to) {
  std::int64_t i = 0;
  for (; i < count && !vector_aligned(to + i); ++i) to[i] = from[i];
  for (; i + kLanes<float> <= count; i += kLanes<float>) store_past_caches(to + i, load(from + i));
  for (; i < count; ++i) to[i] = from[i];
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
