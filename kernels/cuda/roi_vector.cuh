// A few neighbouring values of a map: 16 bytes of them, or one where channels do not come in whole vectors.
#pragma once
#include "device.cuh"

namespace gpu {

template <class T, int VEC>
struct Vector;

template <class T>
struct Vector<T, 8> {  // 16-bit floats
  uint4 bits;
  __device__ __forceinline__ static Vector load(const T* p) { return {load16(p)}; }
  __device__ __forceinline__ void add_to(float (&sum)[8], float weight) const {
    const unsigned words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 two = unpack<T>(words[i]);
      sum[2 * i] += weight * two.x;
      sum[2 * i + 1] += weight * two.y;
    }
  }
  __device__ __forceinline__ static void store(T* p, const float (&sum)[8]) {
    store16(p, make_uint4(pack<T>(sum[0], sum[1]), pack<T>(sum[2], sum[3]), pack<T>(sum[4], sum[5]),
                          pack<T>(sum[6], sum[7])));
  }
};

template <>
struct Vector<float, 4> {
  uint4 bits;
  __device__ __forceinline__ static Vector load(const float* p) { return {load16(p)}; }
  __device__ __forceinline__ void add_to(float (&sum)[4], float weight) const {
    sum[0] += weight * __uint_as_float(bits.x);
    sum[1] += weight * __uint_as_float(bits.y);
    sum[2] += weight * __uint_as_float(bits.z);
    sum[3] += weight * __uint_as_float(bits.w);
  }
  __device__ __forceinline__ static void store(float* p, const float (&sum)[4]) {
    store16(p, make_uint4(__float_as_uint(sum[0]), __float_as_uint(sum[1]), __float_as_uint(sum[2]),
                          __float_as_uint(sum[3])));
  }
};

template <class T>
struct Vector<T, 1> {
  T value;
  __device__ __forceinline__ static Vector load(const T* p) { return {*p}; }
  __device__ __forceinline__ void add_to(float (&sum)[1], float weight) const { sum[0] += weight * to_float(value); }
  __device__ __forceinline__ static void store(T* p, const float (&sum)[1]) { *p = from_float<T>(sum[0]); }
};

}  // namespace gpu
