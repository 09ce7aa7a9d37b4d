// Division by a number that is the same for the whole launch: a multiplication and a shift.
#pragma once

#include "device.cuh"

namespace gpu {

// Source: Granlund and Montgomery, "Division by Invariant Integers using Multiplication", 1994, figure 4.1.
struct Divisor {
  unsigned by, multiplier, shift;

  __device__ __forceinline__ explicit Divisor(int divisor) : by(divisor) {
    shift = 32 - __clz(divisor - 1);  // the least power of two not below it; 0 for 1
    const unsigned long long above = (1ull << shift) - by;
    multiplier = static_cast<unsigned>((above << 32) / by + 1);
  }

  // 0 <= n < 2^31.
  __device__ __forceinline__ int quotient(int n) const {
    const unsigned high = static_cast<unsigned>(static_cast<unsigned long long>(multiplier) * n >> 32);
    return static_cast<int>((high + n) >> shift);
  }

  __device__ __forceinline__ int divide(int n, int& remainder) const {
    const int q = quotient(n);
    remainder = n - q * static_cast<int>(by);
    return q;
  }
};

}  // namespace gpu
