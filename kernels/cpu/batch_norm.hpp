// Batch norm with the statistics of the batch, a residual and an activation, forward and backward, on raw pointers.
#pragma once
#include "activation_kind.hpp"
#include "channel_view.hpp"
#include "dtype.hpp"
#include "isa.hpp"

namespace cvperf {

// out = activation((x - mean[c]) / sqrt(variance[c] + epsilon) * weight[c] + bias[c] + residual)
struct BatchNormArgs {
  const void* x;
  const void* residual;  // laid out as x, or null
  const float* weight;   // [channels], or null for 1
  const float* bias;     // [channels], or null for 0
  void* out;             // laid out as x
  double* mean;          // [channels], written
  double* variance;      // [channels], written: the mean square of the distance from the mean
  DType dtype;           // of x, residual and out: f32, or bf16, which is computed in float32
  ChannelView view;      // of x, which is not empty
  double epsilon;
  Activation activation;
  int num_threads;
};

struct BatchNormBackwardArgs {
  const void* grad;      // of out, laid out as x
  const void* x;         // as in the forward, and so are the following
  const void* residual;  // null as well where there is no activation: its gradient is grad then
  const float* weight;
  const float* bias;
  const double* mean;
  const double* variance;
  void* x_grad;         // laid out as x
  void* residual_grad;  // laid out as x; null unless residual is given and asks for its gradient
  float* weight_grad;   // [channels]
  float* bias_grad;     // [channels]
  DType dtype;          // of grad, x, residual, x_grad and residual_grad
  ChannelView view;
  double epsilon;
  Activation activation;
  int num_threads;
};

CVPERF_DISPATCHED(void, batch_norm, BatchNormArgs)
CVPERF_DISPATCHED(void, batch_norm_backward, BatchNormBackwardArgs)

}  // namespace cvperf
