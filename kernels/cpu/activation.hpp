// Activations on vectors, for the epilogue of the kernels. NaN stays NaN, as in torch: every comparison
// below is written so that it is false, and so keeps x, where x is NaN.
#pragma once
#include "activation_kind.hpp"
#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {

// e^(y - n ln2) for an integer n that leaves at most ln2 / 2 of y: a polynomial of degree 6 with the least relative
// error (2e-9, far below the rounding), each step one multiply-add.
CVPERF_INLINE Vec<float> exp_reduced(Vec<float> y, Vec<float> n) {
  Vec<float> r = y - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  Vec<float> p = r * 1.384365605e-03f + 8.374155499e-03f;
  p = p * r + 4.166800156e-02f;
  p = p * r + 1.666643023e-01f;
  p = p * r + 4.999999404e-01f;
  p = p * r + 1.0f;
  return p * r + 1.0f;
}

// e^x to about 1 ulp, as 2^n times what n leaves. Overflows to infinity. Results below the normal numbers may be
// flushed to zero.
#if defined(__AVX512F__) && CVPERF_VECTOR_BYTES == 64
CVPERF_INLINE Vec<float> exp(Vec<float> x) {
  const Vec<float> lowest = broadcast(-104.0f), highest = broadcast(89.0f);
  const Vec<float> y = min(highest, max(lowest, x));
  const Vec<float> n = (Vec<float>)_mm512_roundscale_ps((__m512)(y * 1.44269504f), _MM_FROUND_TO_NEAREST_INT);
  return (Vec<float>)_mm512_scalef_ps((__m512)exp_reduced(y, n), (__m512)n);
}
#else
CVPERF_INLINE Vec<float> exp(Vec<float> x) {
  const Vec<float> lowest = broadcast(-86.9f), highest = broadcast(88.72283f), zero{};
  Vec<float> y = x < lowest ? lowest : x;
  y = y > highest ? highest : y;
  const Vec<float> magic = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vec<float> shifted = y * 1.44269504f + magic;
  Vec<float> p = exp_reduced(y, shifted - magic);
  // The integer n sits in the low bits of `shifted`. 2^128 does not fit one exponent, so scale by 2^(n-1) * 2.
  Vec<std::int32_t> bits;
  __builtin_memcpy(&bits, &shifted, sizeof bits);
  bits = (bits - 0x4b400000 + 126) << 23;
  Vec<float> scale;
  __builtin_memcpy(&scale, &bits, sizeof scale);
  p = p * scale * 2.0f;
  p = x > highest ? broadcast(__builtin_inff()) : p;
  return x < lowest ? zero : p;
}
#endif

CVPERF_INLINE Vec<double> exp(Vec<double> x) {
  Vec<double> y;
  for (int i = 0; i < kLanes<double>; ++i) y[i] = __builtin_exp(x[i]);
  return y;
}

template <class T>
CVPERF_INLINE Vec<T> activate(Activation activation, Vec<T> x) {
  const Vec<T> zero{}, one = broadcast(T(1)), six = broadcast(T(6));
  switch (activation) {
    case Activation::relu:
      return zero > x ? zero : x;
    case Activation::relu6: {
      const Vec<T> y = zero > x ? zero : x;
      return y > six ? six : y;
    }
    case Activation::silu:
      return x / (one + exp(-x));
    case Activation::hardswish: {
      Vec<T> y = x + T(3);
      y = zero > y ? zero : y;
      y = y > six ? six : y;
      return x * y / six;
    }
    case Activation::sigmoid:
      return one / (one + exp(-x));
    case Activation::leaky_relu:
      return zero > x ? x * T(kLeakyReluSlope) : x;
    default:
      return x;
  }
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
