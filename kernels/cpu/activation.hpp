// Activations on vectors, for the epilogue of the kernels. NaN stays NaN, as in torch: every comparison
// below is written so that it is false, and so keeps x, where x is NaN.
#pragma once
#include "activation_kind.hpp"
#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {

// e^x to about 1 ulp: x = n ln2 + r with |r| <= ln2 / 2, a degree-6 polynomial for e^r (Cephes' expf), and
// 2^n by adding n to the exponent bits. Overflows to infinity; results below 2^-125 are flushed to zero.
CVPERF_INLINE Vec<float> exp(Vec<float> x) {
  const Vec<float> lowest = broadcast(-86.9f), highest = broadcast(88.72283f), zero{};
  Vec<float> y = x < lowest ? lowest : x;
  y = y > highest ? highest : y;
  const Vec<float> magic = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vec<float> shifted = y * 1.44269504f + magic;
  const Vec<float> n = shifted - magic;
  Vec<float> r = y - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  Vec<float> p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
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
