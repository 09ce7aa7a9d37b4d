// Moves of lanes between vectors: transposes and the even lanes of a pair.
#pragma once
#include <utility>

#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {

#if defined(__clang__) || __GNUC__ >= 12
template <class V, int... Index>
CVPERF_INLINE V pick_lanes(V a, V b, std::integer_sequence<int, Index...>) {
  return __builtin_shufflevector(a, b, Index...);
}
template <int Lanes, int... I>
constexpr auto low_pairs(std::integer_sequence<int, I...>) -> std::integer_sequence<int, (I % 2 * Lanes + I / 2)...>;
template <int Lanes, int... I>
constexpr auto high_pairs(std::integer_sequence<int, I...>)
    -> std::integer_sequence<int, (I % 2 * Lanes + I / 2 + Lanes / 2)...>;
template <int... I>
constexpr auto evens(std::integer_sequence<int, I...>) -> std::integer_sequence<int, (2 * I)...>;

template <class T>
using LowPairs = decltype(low_pairs<kLanes<T>>(std::make_integer_sequence<int, kLanes<T>>()));
template <class T>
using HighPairs = decltype(high_pairs<kLanes<T>>(std::make_integer_sequence<int, kLanes<T>>()));
template <class T>
using Evens = decltype(evens(std::make_integer_sequence<int, kLanes<T>>()));

template <class T>
CVPERF_INLINE Vec<T> interleave_low(Vec<T> a, Vec<T> b) {
  return pick_lanes(a, b, LowPairs<T>());
}
template <class T>
CVPERF_INLINE Vec<T> interleave_high(Vec<T> a, Vec<T> b) {
  return pick_lanes(a, b, HighPairs<T>());
}
// Lanes 0, 2, 4, ... of the two vectors joined.
template <class T>
CVPERF_INLINE Vec<T> even_lanes(Vec<T> a, Vec<T> b) {
  return pick_lanes(a, b, Evens<T>());
}
#else
template <class T>
CVPERF_INLINE Vec<T> interleave_low(Vec<T> a, Vec<T> b) {
  Vec<T> v;
  for (int i = 0; i < kLanes<T>; ++i) v[i] = i % 2 ? b[i / 2] : a[i / 2];
  return v;
}
template <class T>
CVPERF_INLINE Vec<T> interleave_high(Vec<T> a, Vec<T> b) {
  Vec<T> v;
  for (int i = 0; i < kLanes<T>; ++i) v[i] = i % 2 ? b[kLanes<T> / 2 + i / 2] : a[kLanes<T> / 2 + i / 2];
  return v;
}
template <class T>
CVPERF_INLINE Vec<T> even_lanes(Vec<T> a, Vec<T> b) {
  Vec<T> v;
  for (int i = 0; i < kLanes<T>; ++i) v[i] = 2 * i < kLanes<T> ? a[2 * i] : b[2 * i - kLanes<T>];
  return v;
}
#endif

// Transposes a square of kLanes vectors: each stage interleaves the first half with the second.
template <class T>
CVPERF_INLINE void transpose(Vec<T> (&rows)[kLanes<T>]) {
  constexpr int lanes = kLanes<T>;
#pragma GCC unroll 4
  for (int stage = 1; stage < lanes; stage *= 2) {
    Vec<T> next[lanes];
#pragma GCC unroll 8
    for (int i = 0; i < lanes / 2; ++i) {
      next[2 * i] = interleave_low<T>(rows[i], rows[i + lanes / 2]);
      next[2 * i + 1] = interleave_high<T>(rows[i], rows[i + lanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) rows[i] = next[i];
  }
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
