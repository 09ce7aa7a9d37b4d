// The parts of a convolution's sum, and where those of its result lie.
#pragma once
#include "epilogue.cuh"

namespace gpu {

/// The type that the epilogue calls by number.
template <class T>
inline constexpr int type_of = INT32;
template <>
inline constexpr int type_of<float> = FLOAT32;
template <>
inline constexpr int type_of<__half> = FLOAT16;
template <>
inline constexpr int type_of<__nv_bfloat16> = BFLOAT16;

/// The steps [x, y) that this block adds up of a sum that is cut into gridDim.y parts.
__device__ __forceinline__ int2 part_of(int steps) {
  const int each = (steps + gridDim.y - 1) / gridDim.y, first = blockIdx.y * each;
  return make_int2(first, min(first + each, steps));
}

/// So many numbers of this type further on; null stays null.
template <class Void>
__device__ __forceinline__ Void* moved(Void* from, int type, long long numbers) {
  if (!from) return nullptr;
  const long long bytes = type <= FLOAT32 ? 4 * numbers : type <= BFLOAT16 ? 2 * numbers : numbers;
  return const_cast<char*>(static_cast<const char*>(from)) + bytes;
}

}  // namespace gpu
