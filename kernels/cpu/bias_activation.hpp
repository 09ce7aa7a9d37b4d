// Bias, residual and activation in one pass, on raw pointers.
#pragma once
#include "activation_kind.hpp"
#include "channel_view.hpp"
#include "dtype.hpp"
#include "isa.hpp"

namespace cvperf {

struct BiasActivationArgs {
  const void* x;
  const void* bias;      // [channels] or null
  const void* residual;  // laid out as x, or null
  void* out;             // laid out as x; may be x itself
  DType dtype;           // of all of them: f16, bf16 (both computed in float32), f32 or f64
  ChannelView view;      // of x
  Activation activation;
  int num_threads;
};

CVPERF_DISPATCHED(void, bias_activation, BiasActivationArgs)

}  // namespace cvperf
