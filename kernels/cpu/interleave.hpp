// Two to four rows become one whose elements take turns, and back: the channels of an image between planes and pixels,
// the groups of a channel shuffle.
#pragma once
#include "shuffle.hpp"

namespace cvperf {
namespace CVPERF_ISA {

#if defined(CVPERF_HAS_SHUFFLE)
// Vector K of the row whose elements are taken in turn from `Count` vectors.
template <int Count, int K, class V, int... I>
CVPERF_INLINE V joined(const V (&parts)[Count], LaneList<I...>) {
  constexpr int n = sizeof...(I);
  V v = __builtin_shufflevector(parts[0], parts[1], ((n * K + I) / Count + ((n * K + I) % Count == 1 ? n : 0))...);
  if constexpr (Count > 2)
    v = __builtin_shufflevector(v, parts[2], ((n * K + I) % Count == 2 ? n + (n * K + I) / Count : I)...);
  if constexpr (Count > 3)
    v = __builtin_shufflevector(v, parts[3], ((n * K + I) % Count == 3 ? n + (n * K + I) / Count : I)...);
  return v;
}

// Elements K, K + Count, K + 2 Count, ... of `Count` vectors that follow one another.
template <int Count, int K, class V, int... I>
CVPERF_INLINE V parted(const V (&row)[Count], LaneList<I...>) {
  constexpr int n = sizeof...(I);
  V v = __builtin_shufflevector(row[0], row[1], (Count * I + K < 2 * n ? Count * I + K : 0)...);
  if constexpr (Count > 2)
    v = __builtin_shufflevector(v, row[2], ((Count * I + K) / n == 2 ? n + (Count * I + K) % n : I)...);
  if constexpr (Count > 3)
    v = __builtin_shufflevector(v, row[3], ((Count * I + K) / n == 3 ? n + (Count * I + K) % n : I)...);
  return v;
}

template <class V, int Count, class T, int... K>
CVPERF_INLINE void join_vectors(const T* from, std::int64_t pitch, T* to, LaneList<K...>) {
  constexpr int n = static_cast<int>(sizeof(V) / sizeof(T));
  V parts[Count];
  (__builtin_memcpy(&parts[K], from + K * pitch, sizeof(V)), ...);
  const V row[Count] = {joined<Count, K>(parts, typename LanesUpTo<n>::type{})...};
  (__builtin_memcpy(to + K * n, &row[K], sizeof(V)), ...);
}

template <class V, int Count, class T, int... K>
CVPERF_INLINE void part_vectors(const T* from, T* to, std::int64_t pitch, LaneList<K...>) {
  constexpr int n = static_cast<int>(sizeof(V) / sizeof(T));
  V row[Count];
  (__builtin_memcpy(&row[K], from + K * n, sizeof(V)), ...);
  const V parts[Count] = {parted<Count, K>(row, typename LanesUpTo<n>::type{})...};
  (__builtin_memcpy(to + K * pitch, &parts[K], sizeof(V)), ...);
}
#endif

// The vectors that hold such elements while they are shuffled. Only AVX-512 moves bytes pairs across a whole vector.
template <class T>
struct Shuffled {
  static constexpr int kBytes = sizeof(T) > 2 || (sizeof(T) == 2 && kVectorBytes == 64) ? kVectorBytes : 16;
};
template <int Size, int Bytes>
struct ShuffledVector;
template <int Bytes>
struct ShuffledVector<1, Bytes> {
  typedef std::uint8_t type __attribute__((vector_size(Bytes)));
};
template <int Bytes>
struct ShuffledVector<2, Bytes> {
  typedef std::uint16_t type __attribute__((vector_size(Bytes)));
};
template <int Bytes>
struct ShuffledVector<4, Bytes> {
  typedef std::uint32_t type __attribute__((vector_size(Bytes)));
};
template <int Bytes>
struct ShuffledVector<8, Bytes> {
  typedef std::uint64_t type __attribute__((vector_size(Bytes)));
};

// to[i * Count + k] = from[k * pitch + i] for i < length, k < Count.
template <int Count, class T>
void join_rows(const T* from, std::int64_t pitch, std::int64_t length, T* to) {
  std::int64_t i = 0;
#if defined(CVPERF_HAS_SHUFFLE)
  using V = typename ShuffledVector<sizeof(T), Shuffled<T>::kBytes>::type;
  constexpr int n = static_cast<int>(sizeof(V) / sizeof(T));
  for (; i + n <= length; i += n)
    join_vectors<V, Count>(from + i, pitch, to + i * Count, typename LanesUpTo<Count>::type{});
#endif
  for (; i < length; ++i)
    for (int k = 0; k < Count; ++k) to[i * Count + k] = from[k * pitch + i];
}

// to[k * pitch + i] = from[i * Count + k] for i < length, k < Count.
template <int Count, class T>
void part_rows(const T* from, std::int64_t length, T* to, std::int64_t pitch) {
  std::int64_t i = 0;
#if defined(CVPERF_HAS_SHUFFLE)
  using V = typename ShuffledVector<sizeof(T), Shuffled<T>::kBytes>::type;
  constexpr int n = static_cast<int>(sizeof(V) / sizeof(T));
  for (; i + n <= length; i += n)
    part_vectors<V, Count>(from + i * Count, to + i, pitch, typename LanesUpTo<Count>::type{});
#endif
  for (; i < length; ++i)
    for (int k = 0; k < Count; ++k) to[k * pitch + i] = from[i * Count + k];
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
