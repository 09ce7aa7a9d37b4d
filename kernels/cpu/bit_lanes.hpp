// Elements of one and of two bytes carried in the lanes of floats as they are, for moves that keep their bits.
#pragma once
#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {

struct Bits8 {
  std::uint8_t bits;
};
struct Bits16 {
  std::uint16_t bits;
};

template <>
struct ComputeOf<Bits8> {
  using type = float;
};
template <>
struct ComputeOf<Bits16> {
  using type = float;
};

CVPERF_INLINE float to_compute(Bits8 x) { return float_of(x.bits); }
CVPERF_INLINE float to_compute(Bits16 x) { return float_of(x.bits); }
template <>
CVPERF_INLINE Bits8 from_compute<Bits8>(float x) {
  return {static_cast<std::uint8_t>(bits_of(x))};
}
template <>
CVPERF_INLINE Bits16 from_compute<Bits16>(float x) {
  return {static_cast<std::uint16_t>(bits_of(x))};
}

// One vector's lanes as narrow integers.
template <class T>
struct NarrowOf {
  typedef T type __attribute__((vector_size(kLanes<float> * sizeof(T))));
};

template <class T>
CVPERF_INLINE Vec<float> load_bits(const T* from) {
  typename NarrowOf<decltype(T::bits)>::type narrow;
  __builtin_memcpy(&narrow, from, sizeof narrow);
  return (Vec<float>)__builtin_convertvector(narrow, Vec<std::uint32_t>);
}
template <class T>
CVPERF_INLINE void store_bits(T* to, Vec<float> v) {
  using Narrow = typename NarrowOf<decltype(T::bits)>::type;
  const Narrow narrow = __builtin_convertvector((Vec<std::uint32_t>)v, Narrow);
  __builtin_memcpy(to, &narrow, sizeof narrow);
}
CVPERF_INLINE Vec<float> load(const Bits8* from) { return load_bits(from); }
CVPERF_INLINE Vec<float> load(const Bits16* from) { return load_bits(from); }
CVPERF_INLINE void store(Bits8* to, Vec<float> v) { store_bits(to, v); }
CVPERF_INLINE void store(Bits16* to, Vec<float> v) { store_bits(to, v); }

}  // namespace CVPERF_ISA
}  // namespace cvperf
