// Transpose of a square of vectors, for kernels that compute with channels in the lanes while memory has
// pixels there.
#pragma once
#include "simd.hpp"

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define CVPERF_HAS_SHUFFLE 1
#endif
#endif

namespace cvperf {
namespace CVPERF_ISA {

template <int... Lane>
struct LaneList {};
template <int Count, int... Lane>
struct LanesUpTo : LanesUpTo<Count - 1, Count - 1, Lane...> {};
template <int... Lane>
struct LanesUpTo<0, Lane...> {
  using type = LaneList<Lane...>;
};

#if defined(CVPERF_HAS_SHUFFLE)
// One butterfly stage: exchanges the off-diagonal Distance x Distance blocks of rows i and i + Distance.
template <int Distance, class V, int... Lane>
CVPERF_INLINE void exchange(V& a, V& b, LaneList<Lane...>) {
  constexpr int n = sizeof...(Lane);
  const V first = __builtin_shufflevector(a, b, ((Lane & Distance) ? n + Lane - Distance : Lane)...);
  b = __builtin_shufflevector(a, b, ((Lane & Distance) ? n + Lane : Lane + Distance)...);
  a = first;
}

template <int Distance, class T>
CVPERF_INLINE void transpose_stages(Vec<T> (&rows)[kLanes<T>]) {
  if constexpr (Distance > 0) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes<T>; ++i) {
      if (!(i & Distance)) exchange<Distance>(rows[i], rows[i + Distance], typename LanesUpTo<kLanes<T>>::type{});
    }
    transpose_stages<Distance / 2, T>(rows);
  }
}
#endif

// rows[i][j] becomes rows[j][i].
template <class T>
CVPERF_INLINE void transpose_square(Vec<T> (&rows)[kLanes<T>]) {
#if defined(CVPERF_HAS_SHUFFLE)
  transpose_stages<kLanes<T> / 2, T>(rows);
#else
  for (int i = 0; i < kLanes<T>; ++i) {
    for (int j = 0; j < i; ++j) {
      const T x = rows[i][j];
      rows[i][j] = rows[j][i];
      rows[j][i] = x;
    }
  }
#endif
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
