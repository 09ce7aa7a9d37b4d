// The activations that kernels fuse, and how numbers become 8-bit integers.
#pragma once
#include "device.cuh"

namespace gpu {

/// Numbers that the host sends (cvperf/backends/cuda/epilogue.py has the same).
enum Activation { NONE, RELU, RELU6, SILU, HARDSWISH, SIGMOID, LEAKY_RELU };

__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }

template <int ACTIVATION>
__device__ __forceinline__ float activated(float x) {
  // Comparisons keep NaN, as torch does.
  if constexpr (ACTIVATION == RELU) return x < 0.0f ? 0.0f : x;
  if constexpr (ACTIVATION == RELU6) return x < 0.0f ? 0.0f : x > 6.0f ? 6.0f : x;
  if constexpr (ACTIVATION == SILU) return x * sigmoid(x);
  if constexpr (ACTIVATION == HARDSWISH) return x * activated<RELU6>(x + 3.0f) * (1.0f / 6.0f);
  if constexpr (ACTIVATION == SIGMOID) return sigmoid(x);
  if constexpr (ACTIVATION == LEAKY_RELU) return x < 0.0f ? 0.01f * x : x;
  return x;
}

template <int ACTIVATION, int V>
__device__ __forceinline__ void activate_each(float (&x)[V]) {
#pragma unroll
  for (int v = 0; v < V; ++v) x[v] = activated<ACTIVATION>(x[v]);
}

/// x through the activation, which is the same for all threads: a branch that costs nothing.
template <int V>
__device__ __forceinline__ void activate(int activation, float (&x)[V]) {
  switch (activation) {
    case RELU:
      return activate_each<RELU>(x);
    case RELU6:
      return activate_each<RELU6>(x);
    case SILU:
      return activate_each<SILU>(x);
    case HARDSWISH:
      return activate_each<HARDSWISH>(x);
    case SIGMOID:
      return activate_each<SIGMOID>(x);
    case LEAKY_RELU:
      return activate_each<LEAKY_RELU>(x);
    default:
      return;
  }
}

/// round(x * inverse_scale) + zero within the 8-bit type T, half to even; NaN becomes the lowest.
template <class T>
__device__ __forceinline__ T requantise(float x, float inverse_scale, int zero) {
  constexpr int LOW = static_cast<T>(-1) < 0 ? -128 : 0, HIGH = LOW + 255;
  x = fminf(fmaxf(x * inverse_scale, static_cast<float>(LOW - zero)), static_cast<float>(HIGH - zero));
  return static_cast<T>(static_cast<int>(rintf(x)) + zero);
}

}  // namespace gpu
