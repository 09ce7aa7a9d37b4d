// Softmax over the middle of three dimensions, on raw pointers.
#pragma once
#include "dtype.hpp"
#include "isa.hpp"

namespace cvperf {

// Input and output are dense [outer, count, inner]. Computed in float32, rounded once.
struct SoftmaxArgs {
  const void* input;
  void* output;
  std::int64_t outer, count, inner;
  DType dtype;  // f16, bf16 or f32
  bool logarithm;
  int num_threads;
};

CVPERF_DISPATCHED(void, softmax, SoftmaxArgs)

}  // namespace cvperf
