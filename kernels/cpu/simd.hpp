// Vectors of one instruction set, written with the compiler's vector types so that one source serves
// every width: CVPERF_VECTOR_BYTES is 16 (baseline: SSE2, NEON), 32 (AVX2) or 64 (AVX-512). Arithmetic
// operators work lane by lane and `a * b + c` contracts to FMA where the instruction set has it.
// Intrinsics appear only where the compiler has no operator for the job.
#pragma once
#include <cstdint>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include "dtype.hpp"

#define CVPERF_INLINE inline __attribute__((always_inline))

namespace cvperf {
namespace CVPERF_ISA {

constexpr int kVectorBytes = CVPERF_VECTOR_BYTES;

template <class T>
struct VecOf {
  typedef T type __attribute__((vector_size(CVPERF_VECTOR_BYTES)));
};
template <class T>
using Vec = typename VecOf<T>::type;
template <class T>
constexpr int kLanes = CVPERF_VECTOR_BYTES / static_cast<int>(sizeof(T));

// The type in which an element type is computed.
template <class T>
struct ComputeOf {
  using type = T;
};
template <>
struct ComputeOf<half> {
  using type = float;
};
template <>
struct ComputeOf<bfloat16> {
  using type = float;
};
template <class T>
using Compute = typename ComputeOf<T>::type;

// f(T{}) with T the element type that `dtype` names, one of the four floating-point ones.
template <class F>
CVPERF_INLINE auto with_floating(DType dtype, F f) {
  switch (dtype) {
    case DType::f16:
      return f(half{});
    case DType::bf16:
      return f(bfloat16{});
    case DType::f64:
      return f(double{});
    default:
      return f(float{});
  }
}

// The same for kernels that compute in float only: `dtype` is not float64.
template <class F>
CVPERF_INLINE auto with_float(DType dtype, F f) {
  switch (dtype) {
    case DType::f16:
      return f(half{});
    case DType::bf16:
      return f(bfloat16{});
    default:
      return f(float{});
  }
}

CVPERF_INLINE std::uint32_t bits_of(float x) {
  std::uint32_t u;
  __builtin_memcpy(&u, &x, 4);
  return u;
}
CVPERF_INLINE float float_of(std::uint32_t u) {
  float x;
  __builtin_memcpy(&x, &u, 4);
  return x;
}

// --- one element -------------------------------------------------------------------------------

CVPERF_INLINE float to_compute(float x) { return x; }
CVPERF_INLINE double to_compute(double x) { return x; }
CVPERF_INLINE float to_compute(bfloat16 x) { return float_of(std::uint32_t{x.bits} << 16); }
CVPERF_INLINE float to_compute(half x) {
#if defined(__F16C__)
  return _cvtsh_ss(x.bits);
#else
  const std::uint32_t sign = std::uint32_t(x.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = x.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return float_of(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  // Subnormal halves are normal floats: scale by a power of two instead of shifting by hand.
  const float value = float_of(magnitude << 13) * float_of(0x77800000u);  // * 2^112
  return float_of(sign | bits_of(value));
#endif
}

template <class T>
CVPERF_INLINE T from_compute(Compute<T> x);
template <>
CVPERF_INLINE float from_compute<float>(float x) {
  return x;
}
template <>
CVPERF_INLINE double from_compute<double>(double x) {
  return x;
}
template <>
CVPERF_INLINE bfloat16 from_compute<bfloat16>(float x) {
  const std::uint32_t u = bits_of(x);
  if (x != x) return {0x7fc0};
  return {static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};  // nearest, ties to even
}
template <>
CVPERF_INLINE half from_compute<half>(float x) {
#if defined(__F16C__)
  return {_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT)};
#else
  const std::uint32_t u = bits_of(x), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};  // rounds to infinity
  if (magnitude < 0x38800000u) {  // subnormal half: let the float adder round at 2^-24
    const float rounded = float_of(magnitude) + 0.5f;
    return {static_cast<std::uint16_t>(sign | (bits_of(rounded) - 0x3f000000u))};
  }
  const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return {static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
#endif
}

// --- vectors -----------------------------------------------------------------------------------

template <class T>
CVPERF_INLINE Vec<T> broadcast(T x) {
  return x - Vec<T>{};  // x - 0 is x, so no instruction is spent on it; x + 0 would be, for it turns -0 into 0
}

// Loads kLanes<Compute<T>> elements (no alignment needed) and widens them to the compute type.
CVPERF_INLINE Vec<float> load(const float* p) {
  Vec<float> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
CVPERF_INLINE Vec<double> load(const double* p) {
  Vec<double> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
CVPERF_INLINE Vec<float> load(const bfloat16* p) {
  typedef std::uint16_t Narrow __attribute__((vector_size(CVPERF_VECTOR_BYTES / 2)));
  Narrow narrow;
  __builtin_memcpy(&narrow, p, sizeof narrow);
  const Vec<std::uint32_t> wide = __builtin_convertvector(narrow, Vec<std::uint32_t>) << 16;
  Vec<float> v;
  __builtin_memcpy(&v, &wide, sizeof v);
  return v;
}
CVPERF_INLINE Vec<float> load(const half* p) {
  Vec<float> v;
#if defined(__AVX512F__) && CVPERF_VECTOR_BYTES == 64
  v = (Vec<float>)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__F16C__) && CVPERF_VECTOR_BYTES == 32
  v = (Vec<float>)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  for (int i = 0; i < kLanes<float>; ++i) v[i] = to_compute(p[i]);
#endif
  return v;
}

CVPERF_INLINE void store(float* p, Vec<float> v) { __builtin_memcpy(p, &v, sizeof v); }
CVPERF_INLINE void store(double* p, Vec<double> v) { __builtin_memcpy(p, &v, sizeof v); }
CVPERF_INLINE void store(bfloat16* p, Vec<float> v) {
  typedef std::uint16_t Narrow __attribute__((vector_size(CVPERF_VECTOR_BYTES / 2)));
  Vec<std::uint32_t> u;
  __builtin_memcpy(&u, &v, sizeof u);
  Vec<std::uint32_t> rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  rounded = (v == v) ? rounded : Vec<std::uint32_t>{} + 0x7fc0u;
  const Narrow narrow = __builtin_convertvector(rounded, Narrow);
  __builtin_memcpy(p, &narrow, sizeof narrow);
}
CVPERF_INLINE void store(half* p, Vec<float> v) {
#if defined(__AVX512F__) && CVPERF_VECTOR_BYTES == 64
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__F16C__) && CVPERF_VECTOR_BYTES == 32
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#else
  for (int i = 0; i < kLanes<float>; ++i) p[i] = from_compute<half>(v[i]);
#endif
}

// The first `count` lanes only; the others read as zero and are not written.
template <class T>
CVPERF_INLINE Vec<Compute<T>> load_partial(const T* p, int count) {
  Vec<Compute<T>> v{};
  for (int i = 0; i < count; ++i) v[i] = to_compute(p[i]);
  return v;
}
template <class T>
CVPERF_INLINE void store_partial(T* p, Vec<Compute<T>> v, int count) {
  for (int i = 0; i < count; ++i) p[i] = from_compute<T>(v[i]);
}
#if defined(__AVX512F__) && CVPERF_VECTOR_BYTES == 64
CVPERF_INLINE Vec<float> load_partial(const float* p, int count) {
  return (Vec<float>)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), p);
}
CVPERF_INLINE void store_partial(float* p, Vec<float> v, int count) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1), (__m512)v);
}
#endif

// to[i] = from[i] in the compute type, i < count.
template <class T>
CVPERF_INLINE void widen_run(const T* from, std::int64_t count, Compute<T>* to) {
  constexpr int lanes = kLanes<Compute<T>>;
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) store(to + i, load(from + i));
  for (; i < count; ++i) to[i] = to_compute(from[i]);
}

// Makes the compiler take `value` as it stands, in a register: it would rather load a number again for each of its
// uses, or keep an address in three parts.
template <class V>
CVPERF_INLINE void hold(V& value) {
#if defined(__x86_64__)
  if constexpr (sizeof(V) <= 8) {
    __asm__("" : "+r"(value));
  } else {
#if defined(__AVX512F__)
    __asm__("" : "+v"(value));
#elif defined(__AVX2__) && CVPERF_VECTOR_BYTES == 64
    // Vectors wider than the registers, which tests compile: there is none to hold them.
#else
    __asm__("" : "+x"(value));
#endif
  }
#else
  (void)value;
#endif
}

// True if any lane of a comparison's result is set.
template <class Mask>
CVPERF_INLINE bool any(Mask mask) {
#if defined(__AVX512F__) && CVPERF_VECTOR_BYTES == 64
  return _mm512_test_epi64_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX__) && CVPERF_VECTOR_BYTES == 32
  return !_mm256_testz_si256((__m256i)mask, (__m256i)mask);
#else
  const Vec<std::uint64_t> words = (Vec<std::uint64_t>)mask;
  std::uint64_t all = 0;
  for (int i = 0; i < kVectorBytes / 8; ++i) all |= words[i];
  return all != 0;
#endif
}

template <class V>
CVPERF_INLINE V max(V a, V b) {  // b where either is NaN, as in `a > b ? a : b`
  return a > b ? a : b;
}
template <class V>
CVPERF_INLINE V min(V a, V b) {
  return a < b ? a : b;
}

// Comparisons as one bit a lane, lane 0 lowest: `a > b` and `a >= b`. Of AVX-512's mask registers GCC makes a
// vector and a mask again where it meets the operators, and two instructions of min and max.
#if defined(__AVX512F__) && CVPERF_VECTOR_BYTES == 64
CVPERF_INLINE Vec<float> max(Vec<float> a, Vec<float> b) { return (Vec<float>)_mm512_max_ps((__m512)a, (__m512)b); }
CVPERF_INLINE Vec<float> min(Vec<float> a, Vec<float> b) { return (Vec<float>)_mm512_min_ps((__m512)a, (__m512)b); }
CVPERF_INLINE Vec<double> max(Vec<double> a, Vec<double> b) {
  return (Vec<double>)_mm512_max_pd((__m512d)a, (__m512d)b);
}
CVPERF_INLINE Vec<double> min(Vec<double> a, Vec<double> b) {
  return (Vec<double>)_mm512_min_pd((__m512d)a, (__m512d)b);
}
CVPERF_INLINE unsigned lanes_above(Vec<float> a, Vec<float> b) {
  return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ);
}
CVPERF_INLINE unsigned lanes_from(Vec<float> a, Vec<float> b) {
  return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ);
}
CVPERF_INLINE unsigned lanes_above(Vec<double> a, Vec<double> b) {
  return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_GT_OQ);
}
CVPERF_INLINE unsigned lanes_from(Vec<double> a, Vec<double> b) {
  return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_GE_OQ);
}
#else
template <class Mask>
CVPERF_INLINE unsigned lane_bits(Mask mask) {
  constexpr int kCount = kVectorBytes / static_cast<int>(sizeof(mask[0]));
#if defined(__AVX__) && CVPERF_VECTOR_BYTES == 32
  if (kCount == 8) return static_cast<unsigned>(_mm256_movemask_ps((__m256)mask));
  return static_cast<unsigned>(_mm256_movemask_pd((__m256d)mask));
#elif defined(__SSE2__) && CVPERF_VECTOR_BYTES == 16
  if (kCount == 4) return static_cast<unsigned>(_mm_movemask_ps((__m128)mask));
  return static_cast<unsigned>(_mm_movemask_pd((__m128d)mask));
#else
  unsigned bits = 0;
  for (int i = 0; i < kCount; ++i) bits |= static_cast<unsigned>(mask[i] & 1) << i;
  return bits;
#endif
}
template <class V>
CVPERF_INLINE unsigned lanes_above(V a, V b) {
  return lane_bits(a > b);
}
template <class V>
CVPERF_INLINE unsigned lanes_from(V a, V b) {
  return lane_bits(a >= b);
}
#endif

}  // namespace CVPERF_ISA
}  // namespace cvperf
