// Moves of lanes between vectors: the transpose of a square and of a block, for kernels that compute with channels in
// the lanes while memory has pixels there, and the even lanes of a pair, for stride 2.
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

// to[c * pitch + r] = from[r * stride + c]. If `Padded`, the last vector of r is written whole, with zeros.
template <bool Padded, class To, class From>
void transpose_block(const From* from, std::int64_t stride, std::int64_t rows, std::int64_t columns, To* to,
                     std::int64_t pitch) {
  using C = Compute<From>;
  constexpr int lanes = kLanes<C>;
  for (std::int64_t r = 0; r < rows; r += lanes) {
    const int height = static_cast<int>(rows - r < lanes ? rows - r : lanes);
    for (std::int64_t c = 0; c < columns; c += lanes) {
      const int width = static_cast<int>(columns - c < lanes ? columns - c : lanes);
      Vec<C> square[lanes];
      for (int i = 0; i < lanes; ++i) {
        const From* row = from + (r + i) * stride + c;
        square[i] = i >= height ? Vec<C>{} : width == lanes ? load(row) : load_partial(row, width);
      }
      transpose_square<C>(square);
      for (int i = 0; i < width; ++i) {
        if (Padded || height == lanes) {
          store(to + (c + i) * pitch + r, square[i]);
        } else {
          store_partial(to + (c + i) * pitch + r, square[i], height);
        }
      }
    }
  }
}

#if defined(CVPERF_HAS_SHUFFLE)
template <class V, int... Lane>
CVPERF_INLINE V pick_even(V a, V b, LaneList<Lane...>) {
  return __builtin_shufflevector(a, b, (2 * Lane)...);
}
#endif

// Lanes 0, 2, 4, ... of the two vectors joined.
template <class T>
CVPERF_INLINE Vec<T> even_lanes(Vec<T> a, Vec<T> b) {
#if defined(CVPERF_HAS_SHUFFLE)
  return pick_even(a, b, typename LanesUpTo<kLanes<T>>::type{});
#else
  Vec<T> v;
  for (int i = 0; i < kLanes<T>; ++i) v[i] = 2 * i < kLanes<T> ? a[2 * i] : b[2 * i - kLanes<T>];
  return v;
#endif
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
