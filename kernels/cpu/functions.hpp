// Elementary functions on vectors of floats, beside those of activation.hpp: to a few units in the last place, of the
// exponential there. NaN stays NaN.
#pragma once
#include "activation.hpp"

namespace cvperf {
namespace CVPERF_ISA {

CVPERF_INLINE Vec<float> absolute(Vec<float> x) { return (Vec<float>)((Vec<std::uint32_t>)x & 0x7fffffffu); }
CVPERF_INLINE Vec<float> with_sign_of(Vec<float> sign, Vec<float> x) {
  return (Vec<float>)(((Vec<std::uint32_t>)sign & 0x80000000u) | ((Vec<std::uint32_t>)x & 0x7fffffffu));
}

// The greatest wins where it is below the least, as in torch.
CVPERF_INLINE Vec<float> clamped(Vec<float> x, Vec<float> least, Vec<float> greatest) {
  const Vec<float> y = least > x ? least : x;
  return y > greatest ? greatest : y;
}

CVPERF_INLINE Vec<float> square_root(Vec<float> x) {
#if defined(__AVX512F__) && CVPERF_VECTOR_BYTES == 64
  return (Vec<float>)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX2__) && CVPERF_VECTOR_BYTES == 32
  return (Vec<float>)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__) && CVPERF_VECTOR_BYTES == 16
  return (Vec<float>)_mm_sqrt_ps((__m128)x);
#else
  for (int i = 0; i < kLanes<float>; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

// The polynomial is that of Cephes (S. Moshier); beyond it e^2x has the digits.
CVPERF_INLINE Vec<float> tanh(Vec<float> x) {
  const Vec<float> size = absolute(x), z = x * x;
  Vec<float> p = z * -5.70498872745e-3f + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const Vec<float> near = p * z * x + x;
  const Vec<float> far = with_sign_of(x, 1.0f - 2.0f / (exp(size + size) + 1.0f));
  return size > 0.625f ? far : near;
}

// e^x - 1. Within ln2 / 2 of zero it is the exponential's polynomial, which has no 1 to take away again.
CVPERF_INLINE Vec<float> exp_minus_one(Vec<float> x) {
  Vec<float> p = x * 1.384365605e-03f + 8.374155499e-03f;
  p = p * x + 4.166800156e-02f;
  p = p * x + 1.666643023e-01f;
  p = p * x + 4.999999404e-01f;
  const Vec<float> near = p * x * x + x;
  return absolute(x) > 0.34657359f ? exp(x) - 1.0f : near;
}

// log(1 + u) for u from 0 to 1: twice the area tangent of u / (2 + u), a polynomial with the least relative error.
CVPERF_INLINE Vec<float> log_one_plus(Vec<float> u) {
  const Vec<float> s = u / (u + 2.0f), z = s * s;
  Vec<float> p = z * 0.11616778373718262f + 0.10852266848087311f;
  p = p * z + 0.1429625004529953f;
  p = p * z + 0.19999851286411285f;
  p = p * z + 0.3333333432674408f;
  const Vec<float> twice = s + s;
  return p * z * twice + twice;
}

// log(1 + e^x), of which no part overflows.
CVPERF_INLINE Vec<float> softplus(Vec<float> x) {
  const Vec<float> zero{}, part = log_one_plus(exp(-absolute(x)));
  return part + (zero > x ? zero : x);
}

// x times the share of the normal distribution that lies below x. The share above |x| is e^(-x^2 / 2) times a
// polynomial in 1 / (1 + |x| / 4) with the least relative error, so that the negative side keeps its digits.
CVPERF_INLINE Vec<float> gelu(Vec<float> x) {
  const Vec<float> size = absolute(x), s = 1.0f / (size * 0.25f + 1.0f);
  Vec<float> p = s * 0.03447749465703964f - 0.19904394447803497f;
  p = p * s + 0.40171265602111816f;
  p = p * s - 0.34239429235458374f;
  p = p * s + 0.3119053840637207f;
  p = p * s - 0.024375081062316895f;
  p = p * s + 0.12295583635568619f;
  p = p * s + 0.0945197120308876f;
  p = p * s + 0.1002657487988472f;
  p = p * s - 2.3532691557193175e-05f;
  // From 14 on the share is zero, and infinity times that would be NaN.
  const Vec<float> zero{}, most = broadcast(14.0f);
  return (zero > x ? zero : x) - (size > most ? most : size) * p * exp(x * x * -0.5f);
}

// The same by tanh, as sigmoid(2 u).
CVPERF_INLINE Vec<float> gelu_by_tanh(Vec<float> x) {
  const Vec<float> u = (x * x * 0.044715f + 1.0f) * x * 1.5957691216057308f;
  const Vec<float> zero{}, y = x / (exp(-u) + 1.0f);
  return x < -20.0f ? zero : y;
}

// x tanh(log(1 + e^x)): the tangent is n / (n + 2) with n = e^2x + 2 e^x, and 1 from 20 on.
CVPERF_INLINE Vec<float> mish(Vec<float> x) {
  const Vec<float> e = exp(x > 20.0f ? broadcast(20.0f) : x), n = e * e + 2.0f * e;
  const Vec<float> zero{}, y = x * (n / (n + 2.0f));
  return x < -100.0f ? zero : y;
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
