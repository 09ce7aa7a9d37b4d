// The end of a convolution's output tile: bias, residual, activation and the one rounding to the stored type.
#pragma once
#include "activation.hpp"
#include "streaming.hpp"

namespace cvperf {
namespace CVPERF_ISA {

// out[i] = activation(sum[i] + bias[i] + residual[i]) for i < count; bias and residual may be null.
// `bias_step` is 1 for a bias each element and 0 for one bias for all. kPastCaches: float32, `out` is aligned and
// `count` a multiple of a vector.
template <class T, bool kPastCaches = false>
CVPERF_INLINE void finish_run(T* out, const Compute<T>* sum, std::int64_t count, const Compute<T>* bias, int bias_step,
                              const T* residual, Activation activation) {
  using C = Compute<T>;
  constexpr int lanes = kLanes<C>;
  for (std::int64_t i = 0; i < count; i += lanes) {
    const std::int64_t left = count - i;
    Vec<C> v = load(sum + i);
    if (bias) v += bias_step ? load(bias + i) : broadcast(*bias);
    if (residual) v += left >= lanes ? load(residual + i) : load_partial(residual + i, static_cast<int>(left));
    v = activate<C>(activation, v);
    if constexpr (kPastCaches) {
      store_past_caches(out + i, v);
    } else if (left >= lanes) {
      store(out + i, v);
    } else {
      store_partial(out + i, v, static_cast<int>(left));
    }
  }
}

// The same for a run whose elements lie `step` apart in memory (the input gradient of a strided layer).
template <class T>
CVPERF_INLINE void finish_scattered(T* out, std::int64_t step, const Compute<T>* sum, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) out[i * step] = from_compute<T>(sum[i]);
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
