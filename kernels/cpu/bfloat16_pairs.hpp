// Two vectors of bfloat16 at a time, taken apart into those at even and at odd places: a shift and a mask where
// widening them in order is a shuffle and a shift for each vector, and narrowing another.
#pragma once
#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {

struct Pairs {
  Vec<float> even, odd;
};
constexpr int kPairLanes = 2 * kLanes<float>;

CVPERF_INLINE Pairs load_pairs(const bfloat16* from) {
  Vec<std::uint32_t> words;
  __builtin_memcpy(&words, from, sizeof words);
  return {(Vec<float>)(words << 16), (Vec<float>)(words & 0xffff0000u)};
}

// Values that bfloat16 can hold.
CVPERF_INLINE void store_exact_pairs(bfloat16* to, const Pairs& v) {
  const Vec<std::uint32_t> words = ((Vec<std::uint32_t>)v.even >> 16) | ((Vec<std::uint32_t>)v.odd & 0xffff0000u);
  __builtin_memcpy(to, &words, sizeof words);
}

// Rounded half to even, as store() rounds, in the high half of each lane.
CVPERF_INLINE Vec<float> rounded_to_bfloat16(Vec<float> v) {
  const Vec<std::uint32_t> u = (Vec<std::uint32_t>)v;
  const Vec<std::uint32_t> rounded = u + 0x7fffu + ((u >> 16) & 1u);
  return (Vec<float>)((v == v) ? rounded : Vec<std::uint32_t>{} + 0x7fc00000u);
}

CVPERF_INLINE void store_pairs(bfloat16* to, const Pairs& v) {
  store_exact_pairs(to, {rounded_to_bfloat16(v.even), rounded_to_bfloat16(v.odd)});
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
