// From int32 sums to the output while they are in L1: zero points, scales, bias, residual, activation, rounding.
#pragma once
#include "activation.hpp"
#include "byte_lanes.hpp"
#include "int8_product.hpp"
#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr int kMaxTileColumns = 64;

// What the columns of a tile need, padded so that whole vectors can be read.
struct Columns {
  alignas(64) std::uint32_t start[kMaxTileColumns];  // of the sums: int32 bias less zero point times column sum
  alignas(64) std::uint32_t sums[kMaxTileColumns];
  alignas(64) float scale[kMaxTileColumns];  // of b, and of a if it has one for all rows
  alignas(64) float bias[kMaxTileColumns];
  std::int64_t first;  // of the output's columns
  int count;
};

bool is_clamp(Activation activation) {
  return activation == Activation::none || activation == Activation::relu || activation == Activation::relu6;
}

// Whether the columns' scale and bias are those of the quantised output, with nothing in between but a clamp.
bool is_folded(const Int8Finish& f) {
  const bool each_row = (f.scale_a && f.scale_a_per_row) || (f.zero_a && f.zero_a_per_row);
  return (f.out_dtype == DType::i8 || f.out_dtype == DType::u8) && is_clamp(f.activation) && !each_row;
}

// What a byte of the residual adds: (r - zero) * scale; folded, the columns' bias has the zero point's part.
struct ResidualStep {
  float scale;
  std::int32_t zero;
};
ResidualStep residual_step(const Int8Finish& f) {
  if (is_folded(f)) return {f.residual_scale * f.out_inverse, 0};
  return {f.residual_scale, f.residual_zero};
}

// to[width] = from[0 .. count), then `rest`.
template <class T>
CVPERF_INLINE void copy_columns(T* to, const T* from, int count, int width, T rest) {
  __builtin_memcpy(to, from, static_cast<std::size_t>(count) * sizeof(T));
  for (int i = count; i < width; ++i) to[i] = rest;
}

// Columns n0 .. n0 + width of a group; those past n read as zero.
void load_columns(const Int8Product& p, std::int64_t group, std::int64_t n0, int width, Columns& columns) {
  const Int8Finish& f = p.finish;
  const std::int64_t left = p.n - n0;
  columns.first = group * p.n + n0;
  columns.count = left < width ? static_cast<int>(left) : width;
  const std::int64_t sums_at = int8_panels(p.n) * int8_quads(p.k) * kQuadBytes + n0 * 4;
  __builtin_memcpy(columns.sums, p.packed + group * packed_int8_bytes(p.k, p.n) + sums_at,
                   static_cast<std::size_t>(width) * 4);

  const std::uint32_t* int_bias = static_cast<const std::uint32_t*>(f.bias) + columns.first;
  const bool integer = f.out_dtype == DType::i32;
  copy_columns(columns.start, int_bias, f.bias && integer ? columns.count : 0, width, 0u);
  const std::uint32_t zero =
      (p.a_signed ? kShift : 0) + (f.zero_a && !f.zero_a_per_row ? static_cast<std::uint32_t>(f.zero_a[0]) : 0u);
  for (int i = 0; i < width; ++i) columns.start[i] -= columns.sums[i] * zero;
  if (integer) return;

  copy_columns(columns.bias, static_cast<const float*>(f.bias) + columns.first, f.bias ? columns.count : 0, width,
               0.0f);
  const float one = f.scale_b && !f.scale_b_per_column ? f.scale_b[0] : 1.0f;
  copy_columns(columns.scale, f.scale_b + columns.first, f.scale_b && f.scale_b_per_column ? columns.count : 0, width,
               one);
  const float scale_a = f.scale_a && !f.scale_a_per_row ? f.scale_a[0] : 1.0f;
  const float inverse = is_folded(f) ? f.out_inverse : 1.0f;
  const float zero_residual =
      is_folded(f) && f.residual ? static_cast<float>(f.residual_zero) * residual_step(f).scale : 0.0f;
  for (int i = 0; i < width; ++i) {
    columns.scale[i] *= scale_a * inverse;
    columns.bias[i] = columns.bias[i] * inverse - zero_residual;
  }
}

// --- stores and loads of a vector of lanes, or the first `count` of them --------------------------

template <class V>
CVPERF_INLINE void store_first(void* to, V v, std::size_t bytes) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  if constexpr (sizeof(V) == 64)
    _mm512_mask_storeu_epi8(to, ~0ull >> (64 - bytes), (__m512i)v);
  else if constexpr (sizeof(V) == 32)
    _mm256_mask_storeu_epi8(to, ~0u >> (32 - bytes), (__m256i)v);
  else
    _mm_mask_storeu_epi8(to, static_cast<__mmask16>(0xffffu >> (16 - bytes)), (__m128i)v);
#else
  __builtin_memcpy(to, &v, bytes);
#endif
}

// What an int8 or uint8 output is rounded to.
struct Quantiser {
  float inverse, low, high;  // limits before the zero point is added; inverse and activation may be folded in
  std::int32_t zero;
};

template <class T>
Quantiser quantiser(const Int8Finish& f) {
  const bool folded = is_folded(f);
  const float lowest = static_cast<float>((kSigned<T> ? -128 : 0) - f.out_zero), highest = lowest + 255.0f;
  const float six = 6.0f * f.out_inverse;
  const bool from_zero = folded && f.activation != Activation::none && lowest < 0.0f;
  const bool to_six = folded && f.activation == Activation::relu6 && six < highest;
  return {folded ? 1.0f : f.out_inverse, from_zero ? 0.0f : lowest, to_six ? six : highest, f.out_zero};
}

template <class T>
CVPERF_INLINE void store_out(T* out, Vec<float> value, int count, const Quantiser&) {
  if (count == kLanes<float>) return store(out, value);
  typedef std::uint8_t Bytes __attribute__((vector_size(kLanes<float> * sizeof(T))));
  T lanes[kLanes<float>];
  store(lanes, value);
  Bytes bytes;
  __builtin_memcpy(&bytes, lanes, sizeof bytes);
  store_first(out, bytes, static_cast<std::size_t>(count) * sizeof(T));
}

// Rounds half to even and saturates; NaN becomes the least value there can be.
template <class T>
CVPERF_INLINE void store_quantised(T* out, Vec<float> value, int count, const Quantiser& q) {
  Vec<float> v = max(value, broadcast(q.low));
  v = min(v, broadcast(q.high));
  const Bytes<T> narrow = narrowed<T>(rounded(v) + q.zero);
  if (count == kLanes<float>)
    __builtin_memcpy(out, &narrow, sizeof narrow);
  else
    store_first(out, narrow, static_cast<std::size_t>(count));
}
CVPERF_INLINE void store_out(std::int8_t* out, Vec<float> value, int count, const Quantiser& q) {
  store_quantised(out, value, count, q);
}
CVPERF_INLINE void store_out(std::uint8_t* out, Vec<float> value, int count, const Quantiser& q) {
  store_quantised(out, value, count, q);
}

template <class T>
CVPERF_INLINE Vec<float> load_residual(const T* from, int count, const ResidualStep& step) {
  if constexpr (sizeof(T) == 1) {
    const Vec<std::int32_t> wide = count == kLanes<float> ? widened(from) : widened_partial(from, count);
    return __builtin_convertvector(wide - step.zero, Vec<float>) * step.scale;
  } else {
    return count == kLanes<float> ? load(from) : load_partial(from, count);
  }
}

// --- rows of a tile -------------------------------------------------------------------------------

CVPERF_INLINE Vec<std::uint32_t> load_sums(const void* from) {
  Vec<std::uint32_t> sums;
  __builtin_memcpy(&sums, from, sizeof sums);
  return sums;
}

// Without kGeneral there is no scale or zero point of its own for each row, and the activation is a clamp or none:
// a fraction of the time, and what nearly every call wants.
template <class T, bool kGeneral>
void finish_float(const Int8Product& p, std::int64_t m0, int rows, const Columns& columns, const std::int32_t* sums,
                  std::int64_t stride) {
  constexpr int L = kLanes<float>;
  const Int8Finish& f = p.finish;
  const std::int64_t pitch = p.groups * p.n;
  Quantiser q{};
  if constexpr (sizeof(T) == 1) q = quantiser<T>(f);
  const Vec<float> least = broadcast(f.activation == Activation::none ? -__builtin_inff() : 0.0f);
  const Vec<float> most = broadcast(f.activation == Activation::relu6 ? 6.0f : __builtin_inff());
  const bool folded = is_folded(f);
  const ResidualStep step = residual_step(f);
  const int width = columns.count;
  for (int r = 0; r < rows; ++r, sums += stride) {
    const std::int64_t m = m0 + r, at = m * pitch + columns.first;
    T* const out = static_cast<T*>(f.out) + at;
    const std::uint32_t zero = kGeneral && f.zero_a_per_row && f.zero_a ? static_cast<std::uint32_t>(f.zero_a[m]) : 0;
    const float scale_a = kGeneral && f.scale_a_per_row && f.scale_a ? f.scale_a[m] : 1.0f;
    for (int c = 0; c < width; c += L) {
      const int count = width - c < L ? width - c : L;
      Vec<std::uint32_t> exact = load_sums(sums + c);
      Vec<float> scale = load(columns.scale + c);
      if (kGeneral) {
        exact -= load_sums(columns.sums + c) * zero;
        scale *= scale_a;
      }
      Vec<float> value = __builtin_convertvector((Vec<std::int32_t>)exact, Vec<float>);
      value = value * scale + load(columns.bias + c);
      if (f.residual) value += load_residual(static_cast<const T*>(f.residual) + at + c, count, step);
      if (kGeneral) {
        value = activate<float>(f.activation, value);
      } else if (!folded) {
        value = least > value ? least : value;  // keeps NaN
        value = value > most ? most : value;
      }
      if (sizeof(T) == 1 && !folded) value *= q.inverse;
      store_out(out + c, value, count, q);
    }
  }
}

template <class T>
void finish_float(const Int8Product& p, std::int64_t m0, int rows, const Columns& columns, const std::int32_t* sums,
                  std::int64_t stride) {
  const Int8Finish& f = p.finish;
  const bool each_row = (f.scale_a && f.scale_a_per_row) || (f.zero_a && f.zero_a_per_row);
  if (each_row || !is_clamp(f.activation))
    finish_float<T, true>(p, m0, rows, columns, sums, stride);
  else
    finish_float<T, false>(p, m0, rows, columns, sums, stride);
}

void finish_int32(const Int8Product& p, std::int64_t m0, int rows, const Columns& columns, const std::int32_t* sums,
                  std::int64_t stride) {
  constexpr int L = kLanes<std::int32_t>;
  const Int8Finish& f = p.finish;
  for (int r = 0; r < rows; ++r, sums += stride) {
    const std::uint32_t zero = f.zero_a_per_row && f.zero_a ? static_cast<std::uint32_t>(f.zero_a[m0 + r]) : 0;
    std::int32_t* out = static_cast<std::int32_t*>(f.out) + (m0 + r) * p.groups * p.n + columns.first;
    for (int c = 0; c < columns.count; c += L) {
      const Vec<std::uint32_t> exact = load_sums(sums + c) - load_sums(columns.sums + c) * zero;
      const int count = columns.count - c < L ? columns.count - c : L;
      if (count == L)
        __builtin_memcpy(out + c, &exact, sizeof exact);
      else
        store_first(out + c, exact, static_cast<std::size_t>(count) * 4);
    }
  }
}

// Writes output rows m0 .. m0 + rows of the columns, whose sums are complete.
void finish(const Int8Product& p, std::int64_t m0, int rows, const Columns& columns, const std::int32_t* sums,
            std::int64_t stride) {
  switch (p.finish.out_dtype) {
    case DType::f32:
      return finish_float<float>(p, m0, rows, columns, sums, stride);
    case DType::bf16:
      return finish_float<bfloat16>(p, m0, rows, columns, sums, stride);
    case DType::f16:
      return finish_float<half>(p, m0, rows, columns, sums, stride);
    case DType::i8:
      return finish_float<std::int8_t>(p, m0, rows, columns, sums, stride);
    case DType::u8:
      return finish_float<std::uint8_t>(p, m0, rows, columns, sums, stride);
    default:
      return finish_int32(p, m0, rows, columns, sums, stride);
  }
}

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf
