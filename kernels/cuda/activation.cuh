// The activations that kernels fuse, and how numbers become 8-bit integers.
#pragma once
#include "device.cuh"

namespace gpu {

/// Numbers that the host sends (cvperf/backends/cuda/epilogue.py has the same).
enum Activation { NONE, RELU, RELU6, SILU, HARDSWISH, SIGMOID, LEAKY_RELU };

__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }

/// x through the activation, which is the same for all threads: a branch that costs nothing.
template <int V>
__device__ __forceinline__ void activate(int activation, float (&x)[V]) {
  auto each = [&](auto f) {
#pragma unroll
    for (int v = 0; v < V; ++v) x[v] = f(x[v]);
  };
  // Comparisons keep NaN, as torch does.
  auto relu6 = [](float y) { return y < 0.0f ? 0.0f : y > 6.0f ? 6.0f : y; };
  switch (activation) {
    case RELU:
      return each([](float y) { return y < 0.0f ? 0.0f : y; });
    case RELU6:
      return each(relu6);
    case SILU:
      return each([](float y) { return y * sigmoid(y); });
    case HARDSWISH:
      return each([=](float y) { return y * relu6(y + 3.0f) * (1.0f / 6.0f); });
    case SIGMOID:
      return each([](float y) { return sigmoid(y); });
    case LEAKY_RELU:
      return each([](float y) { return y < 0.0f ? 0.01f * y : y; });
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
