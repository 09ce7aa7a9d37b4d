// From int32 accumulators to the output while they are in L1: zero points, scales, bias, activation, rounding.
#pragma once
#include "activation.hpp"
#include "int8_gemm.hpp"
#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr int kMaxTileColumns = 64;

// What the columns of a tile need, padded so that whole vectors can be read.
struct Columns {
  alignas(64) std::uint32_t sums[kMaxTileColumns];
  alignas(64) float scale[kMaxTileColumns];
  alignas(64) float bias[kMaxTileColumns];
  alignas(64) std::uint32_t int_bias[kMaxTileColumns];
  int count;
};

void load_columns(const Int8GemmArgs& args, std::int64_t first, int width, Columns& columns) {
  const std::int64_t left = args.n - first;
  columns.count = left < width ? static_cast<int>(left) : width;
  const std::uint8_t* sums = args.packed + int8_panels(args.n) * int8_quads(args.k) * kQuadBytes;
  __builtin_memcpy(columns.sums, sums + first * 4, static_cast<std::size_t>(width) * 4);
  const bool integer = args.out_dtype == DType::i32;
  for (int i = 0; i < width; ++i) {
    const bool inside = i < columns.count;
    columns.scale[i] = inside && args.scale_b ? args.scale_b[args.scale_b_per_column ? first + i : 0] : 1.0f;
    columns.bias[i] = inside && args.bias && !integer ? static_cast<const float*>(args.bias)[first + i] : 0.0f;
    columns.int_bias[i] = inside && args.bias && integer ? static_cast<const std::uint32_t*>(args.bias)[first + i] : 0u;
  }
}

// Rounds half to even and saturates; NaN becomes -128, as the processor's own conversion gives.
CVPERF_INLINE void store_int8(std::int8_t* out, Vec<float> value, int count) {
  typedef std::int8_t Narrow __attribute__((vector_size(CVPERF_VECTOR_BYTES / 4)));
  Vec<float> v = max(value, broadcast(-128.0f));
  v = min(v, broadcast(127.0f));
  v += broadcast(12582912.0f);  // 1.5 * 2^23: the sum rounds to an integer, which sits in its low bits
  const Vec<std::int32_t> integers = (Vec<std::int32_t>)v - 0x4b400000;
#if defined(__AVX512F__) && CVPERF_VECTOR_BYTES == 64
  const Narrow narrow = (Narrow)_mm512_cvtepi32_epi8((__m512i)integers);
#elif defined(__AVX2__) && CVPERF_VECTOR_BYTES == 32
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128((__m256i)integers), _mm256_extracti128_si256((__m256i)integers, 1));
  const __m128i bytes = _mm_packs_epi16(words, words);
  Narrow narrow;
  __builtin_memcpy(&narrow, &bytes, sizeof narrow);
#else
  const Narrow narrow = __builtin_convertvector(integers, Narrow);
#endif
  if (count == kLanes<float>)
    __builtin_memcpy(out, &narrow, sizeof narrow);
  else
    for (int i = 0; i < count; ++i) out[i] = narrow[i];
}
template <class T>
CVPERF_INLINE void store_float(T* out, Vec<float> value, int count) {
  if (count == kLanes<float>)
    store(out, value);
  else
    store_partial(out, value, count);
}
CVPERF_INLINE void store_out(float* out, Vec<float> value, int count) { store_float(out, value, count); }
CVPERF_INLINE void store_out(bfloat16* out, Vec<float> value, int count) { store_float(out, value, count); }
CVPERF_INLINE void store_out(half* out, Vec<float> value, int count) { store_float(out, value, count); }
CVPERF_INLINE void store_out(std::int8_t* out, Vec<float> value, int count) { store_int8(out, value, count); }

// The accumulators less zero point times column sums, modulo 2^32.
CVPERF_INLINE Vec<std::uint32_t> corrected(const std::int32_t* acc, const std::uint32_t* sums, std::uint32_t zero) {
  Vec<std::uint32_t> x, sum;
  __builtin_memcpy(&x, acc, sizeof x);
  __builtin_memcpy(&sum, sums, sizeof sum);
  return x - sum * (Vec<std::uint32_t>{} + zero);
}

// The zero point of row m as the kernel sees a, which may have been shifted.
CVPERF_INLINE std::uint32_t zero_of(const Int8GemmArgs& args, std::int64_t m, int shift) {
  const std::int32_t zero = args.zero_a ? args.zero_a[args.zero_a_per_row ? m : 0] : 0;
  return static_cast<std::uint32_t>(zero) + static_cast<std::uint32_t>(shift);
}

template <class T, bool kActivate>
void finish_float(const Int8GemmArgs& args, std::int64_t m0, int rows, std::int64_t n0, const Columns& columns,
                  int shift, const std::int32_t* acc, std::int64_t acc_stride) {
  constexpr int L = kLanes<float>;
  for (int r = 0; r < rows; ++r, acc += acc_stride) {
    const float scale_a = args.scale_a ? args.scale_a[args.scale_a_per_row ? m0 + r : 0] : 1.0f;
    const std::uint32_t zero = zero_of(args, m0 + r, shift);
    T* out = static_cast<T*>(args.out) + (m0 + r) * args.n + n0;
    for (int c = 0; c < columns.count; c += L) {
      const Vec<std::int32_t> exact = (Vec<std::int32_t>)corrected(acc + c, columns.sums + c, zero);
      Vec<float> value = __builtin_convertvector(exact, Vec<float>);
      value = value * scale_a * load(columns.scale + c) + load(columns.bias + c);
      if (kActivate) value = activate<float>(args.activation, value);
      store_out(out + c, value, columns.count - c < L ? columns.count - c : L);
    }
  }
}

template <class T>
void finish_float(const Int8GemmArgs& args, std::int64_t m0, int rows, std::int64_t n0, const Columns& columns,
                  int shift, const std::int32_t* acc, std::int64_t acc_stride) {
  if (args.activation == Activation::none)
    finish_float<T, false>(args, m0, rows, n0, columns, shift, acc, acc_stride);
  else
    finish_float<T, true>(args, m0, rows, n0, columns, shift, acc, acc_stride);
}

void finish_int32(const Int8GemmArgs& args, std::int64_t m0, int rows, std::int64_t n0, const Columns& columns,
                  int shift, const std::int32_t* acc, std::int64_t acc_stride) {
  constexpr int L = kLanes<std::int32_t>;
  for (int r = 0; r < rows; ++r, acc += acc_stride) {
    const std::uint32_t zero = zero_of(args, m0 + r, shift);
    std::int32_t* out = static_cast<std::int32_t*>(args.out) + (m0 + r) * args.n + n0;
    for (int c = 0; c < columns.count; c += L) {
      Vec<std::uint32_t> bias;
      __builtin_memcpy(&bias, columns.int_bias + c, sizeof bias);
      const Vec<std::uint32_t> exact = corrected(acc + c, columns.sums + c, zero) + bias;
      const int count = columns.count - c < L ? columns.count - c : L;
      if (count == L)
        __builtin_memcpy(out + c, &exact, sizeof exact);
      else
        for (int i = 0; i < count; ++i) out[c + i] = static_cast<std::int32_t>(exact[i]);
    }
  }
}

// Writes output rows m0 .. m0 + rows, columns n0 .. n0 + columns.count.
void finish(const Int8GemmArgs& args, std::int64_t m0, int rows, std::int64_t n0, const Columns& columns, int shift,
            const std::int32_t* acc, std::int64_t acc_stride) {
  switch (args.out_dtype) {
    case DType::f32:
      return finish_float<float>(args, m0, rows, n0, columns, shift, acc, acc_stride);
    case DType::bf16:
      return finish_float<bfloat16>(args, m0, rows, n0, columns, shift, acc, acc_stride);
    case DType::f16:
      return finish_float<half>(args, m0, rows, n0, columns, shift, acc, acc_stride);
    case DType::i8:
      return finish_float<std::int8_t>(args, m0, rows, n0, columns, shift, acc, acc_stride);
    default:
      return finish_int32(args, m0, rows, n0, columns, shift, acc, acc_stride);
  }
}

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf
