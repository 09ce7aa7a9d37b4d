// The end of a float32 block of outputs held in registers: residual, activation, store. Activations that clamp stay
// in registers; the others go through one function that is not inlined, so that the exponential is compiled once.
#pragma once
#include "activation.hpp"
#include "conv2d_problem.hpp"
#include "streaming.hpp"

namespace cvperf {
namespace CVPERF_ISA {

struct BlockEnd {
  explicit BlockEnd(Activation a) : activation(a) {
    clamps = a == Activation::none || a == Activation::relu || a == Activation::relu6;
    low = a == Activation::none ? -__builtin_inff() : 0.0f;
    high = a == Activation::relu6 ? 6.0f : __builtin_inff();
  }
  CVPERF_INLINE void write(float* to, Vec<float> v) const { past_caches ? store_past_caches(to, v) : store(to, v); }

  Activation activation;
  bool clamps;  // to [low, high]
  float low, high;
  bool past_caches = false;  // stores are aligned; each thread must settle_streams() at its end
};

namespace {

// sums [rows][vectors]; row i goes to out + i * step.
__attribute__((noinline)) void activate_block(const BlockEnd& end, const Vec<float>* sums, int rows, int vectors,
                                              float* out, std::int64_t step, const float* residual) {
  for (int i = 0; i < rows; ++i)
    for (int v = 0; v < vectors; ++v) {
      const std::int64_t at = i * step + v * kLanes<float>;
      Vec<float> sum = *sums++;
      if (residual) sum += load(residual + at);
      end.write(out + at, activate<float>(end.activation, sum));
    }
}

}  // namespace

// The first `count` rows only.
template <int Rows, int Vectors>
CVPERF_INLINE void end_block(const BlockEnd& end, Vec<float> (&sum)[Rows][Vectors], int count, float* out,
                             std::int64_t step, const float* residual) {
  constexpr int lanes = kLanes<float>;
  if (!end.clamps) {
    Vec<float> kept[Rows * Vectors];
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) kept[i * Vectors + v] = sum[i][v];
    activate_block(end, kept, count, Vectors, out, step, residual);
    return;
  }
  const Vec<float> low = broadcast(end.low), high = broadcast(end.high);
  if (residual)
#pragma GCC unroll 8
    for (int i = 0; i < Rows && i < count; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sum[i][v] += load(residual + i * step + v * lanes);
  if (end.past_caches) {
#pragma GCC unroll 8
    for (int i = 0; i < Rows && i < count; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) store_past_caches(out + i * step + v * lanes, min(high, max(low, sum[i][v])));
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < Rows && i < count; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) store(out + i * step + v * lanes, min(high, max(low, sum[i][v])));
  }
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
