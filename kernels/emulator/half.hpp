// float16 and bfloat16 as CUDA names them, rounded to nearest even. Kernels compute in float32, so conversions suffice.
#pragma once
#include "language.hpp"

namespace emulator {

template <class To, class From>
To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same number of bits");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

inline float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
  if (exponent == 31) return bits<float>(sign | 0x7f800000u | fraction << 13);
  if (exponent > 0) return bits<float>(sign | (exponent + 112) << 23 | fraction << 13);
  const float small = std::ldexp(static_cast<float>(fraction), -24);
  return sign ? -small : small;
}

inline std::uint16_t float_to_half(float x) {
  const auto pattern = bits<std::uint32_t>(x);
  const std::uint32_t sign = pattern >> 16 & 0x8000, size = pattern & 0x7fffffff;
  if (size > 0x7f800000) return 0x7fff;
  if (size >= 0x477ff000) return sign | 0x7c00;  // 65520 and more round to infinity
  if (size < 0x38800000) {                       // subnormal: a multiple of 2^-24
    return sign | static_cast<std::uint32_t>(std::lrint(std::ldexp(bits<float>(size), 24)));
  }
  return sign | (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13;
}

inline float bfloat_to_float(std::uint16_t x) { return bits<float>(std::uint32_t(x) << 16); }

inline std::uint16_t float_to_bfloat(float x) {
  const auto pattern = bits<std::uint32_t>(x);
  if ((pattern & 0x7fffffff) > 0x7f800000) return 0x7fff;
  return (pattern + 0x7fff + (pattern >> 16 & 1)) >> 16;
}

}  // namespace emulator

struct __half {
  std::uint16_t pattern;
};
struct __nv_bfloat16 {
  std::uint16_t pattern;
};
inline float __half2float(__half x) { return emulator::half_to_float(x.pattern); }
inline __half __float2half_rn(float x) { return {emulator::float_to_half(x)}; }
inline unsigned short __half_as_ushort(__half x) { return x.pattern; }
inline __half __ushort_as_half(unsigned short x) { return {x}; }
inline float __bfloat162float(__nv_bfloat16 x) { return emulator::bfloat_to_float(x.pattern); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return {emulator::float_to_bfloat(x)}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.pattern; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short x) { return {x}; }
