// What the depthwise convolutions share: which pixels of a row meet which taps.
#pragma once

#include "epilogue.cuh"

namespace gpu {

template <class A, class B>
inline constexpr bool is_same = false;
template <class A>
inline constexpr bool is_same<A, A> = true;

// A number as it is multiplied and summed: float32, or int32 for 8 bits.
__device__ __forceinline__ float widened(__half x) { return to_float(x); }
__device__ __forceinline__ float widened(__nv_bfloat16 x) { return to_float(x); }
__device__ __forceinline__ int widened(signed char x) { return x; }
__device__ __forceinline__ int widened(unsigned char x) { return x; }

template <class T, int V>
__device__ __forceinline__ Vector<T, V> vector_at(const T* at) {
  return *reinterpret_cast<const Vector<T, V>*>(at);
}

// Which pixels a thread loads of a row of the window, counted from its first: pixel j meets tap k of output i.
template <int K, int STRIDE, bool TURNED, int STRIP>
struct Strip {
  // TURNED: output i was reached from pixel (i + K / 2 - k) / 2, where that is whole.
  static constexpr int first = TURNED ? -(K / 4) : 0;
  static constexpr int pixels = TURNED ? (STRIP - 1 + K / 2) / 2 - first + 1 : (STRIP - 1) * STRIDE + K;
  static __device__ constexpr bool meets(int j, int i, int k) {
    return TURNED ? i + K / 2 - k == 2 * (j + first) : i * STRIDE + k == j;
  }
};

// Where tap `k` reads, and whether that exists; turned: what the tap was written from.
__device__ __forceinline__ bool source_of(int at, int k, int stride, int padding, int dilation, int size, bool turned,
                                          int& source) {
  if (!turned) {
    source = at * stride - padding + k * dilation;
    return source >= 0 && source < size;
  }
  const int far = at + padding - k * dilation;
  source = far / stride;
  return far >= 0 && source * stride == far && source < size;
}

}  // namespace gpu
