// Up to 16 bytes of a matrix' row at a time, with the ragged end one element at a time.
#pragma once
#include "device.cuh"

namespace gpu {

template <class T, int V>
struct alignas(V * sizeof(T)) Vector {
  T values[V];
};

template <class T, int V>
__device__ __forceinline__ bool whole(const T* at, int inside) {
  return inside >= V && reinterpret_cast<unsigned long long>(at) % sizeof(Vector<T, V>) == 0;
}

/// V elements, of which `inside` or all lie in the row; the others are zero.
template <int V, class T>
__device__ __forceinline__ void load(T (&to)[V], const T* from, int inside) {
  if (whole<T, V>(from, inside)) {
    const auto vector = *reinterpret_cast<const Vector<T, V>*>(from);
#pragma unroll
    for (int v = 0; v < V; ++v) to[v] = vector.values[v];
  } else {
#pragma unroll
    for (int v = 0; v < V; ++v) to[v] = v < inside ? from[v] : T{};
  }
}

/// The V elements, or those `inside` the row.
template <int V, class T>
__device__ __forceinline__ void store(T* to, const T (&from)[V], int inside) {
  if (whole<T, V>(to, inside)) {
    Vector<T, V> vector;
#pragma unroll
    for (int v = 0; v < V; ++v) vector.values[v] = from[v];
    *reinterpret_cast<Vector<T, V>*>(to) = vector;
  } else {
#pragma unroll
    for (int v = 0; v < V; ++v)
      if (v < inside) to[v] = from[v];
  }
}

}  // namespace gpu
