// Complete sums to bytes from the registers, where tiles multiply bytes: a layer of 64 channels makes 16 products for
// each vector of sums, a depthwise one 3, so that few instructions count. Other instruction sets finish from memory
// (int8_epilogue.hpp).
#pragma once
#include "int8_epilogue.hpp"

#if defined(__AVX512VNNI__)
#define CVPERF_QUANTISES_TILES 64  // bytes of the vectors
#elif defined(CVPERF_BYTE_DOT) && defined(__AVX2__) && CVPERF_VECTOR_BYTES == 32
#define CVPERF_QUANTISES_TILES 32
#endif

namespace cvperf {
namespace CVPERF_ISA {
namespace {

// Where complete sums become bytes from the registers: round(sum * scale + bias + r * residual_scale) + zero, clamped
// to low .. high, all as uint8; int8 is that with its highest bit flipped as it is written.
struct Quantise {
  const float *scale, *bias;  // of the tile's columns
  std::int32_t zero;
  std::uint8_t low, high;
  std::uint8_t flip;             // 0x80 for int8
  const std::uint8_t* residual;  // as `out` if that is uint8, or null
  float residual_scale;
  Activation activation;  // none if it is a clamp
  float inverse;
  std::uint8_t* out;  // null: the sums are stored
  std::int64_t stride;
};

// How a layer's bytes are made from columns.count columns, or nothing: finish() has more to do.
[[maybe_unused]] Quantise quantised(const Int8Product& p, const Columns& columns) {
#if defined(CVPERF_QUANTISES_TILES)
  constexpr bool kQuantises = true;
#else
  constexpr bool kQuantises = false;
#endif
  const Int8Finish& f = p.finish;
  const bool is_signed = f.out_dtype == DType::i8, smooth = !is_clamp(f.activation);
  const bool each_row = (f.scale_a && f.scale_a_per_row) || (f.zero_a && f.zero_a_per_row);
  if (!kQuantises || each_row || !(is_signed || f.out_dtype == DType::u8)) return {};
  if (f.residual && (is_signed || smooth)) return {};
  const Quantiser q = is_signed ? quantiser<std::int8_t>(f) : quantiser<std::uint8_t>(f);
  const std::int32_t zero = q.zero + (is_signed ? 128 : 0);
  const auto as_byte = [zero](float limit) {
    return static_cast<std::uint8_t>(static_cast<std::int32_t>(__builtin_rintf(limit)) + zero);
  };
  Quantise to{};
  to.scale = columns.scale;
  to.bias = columns.bias;
  to.zero = zero;
  to.low = as_byte(q.low);
  to.high = as_byte(q.high);
  to.flip = is_signed ? 0x80 : 0;
  to.residual = static_cast<const std::uint8_t*>(f.residual);
  if (to.residual) to.residual += columns.first;
  to.residual_scale = residual_step(f).scale;
  to.activation = smooth ? f.activation : Activation::none;
  to.inverse = q.inverse;
  to.out = static_cast<std::uint8_t*>(f.out) + columns.first;
  to.stride = p.groups * p.n;
  return to;
}

#if !defined(CVPERF_QUANTISES_TILES)
template <int R, int V, bool kResidual>
CVPERF_INLINE void quantise(Vec<std::int32_t> (&)[R][V], const Quantise&) {}
#endif

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf

#if !defined(CVPERF_QUANTISES_TILES)
#elif CVPERF_QUANTISES_TILES == 64
#include "int8_quantise_avx512.hpp"
#else
#include "int8_quantise_avx2.hpp"
#endif
