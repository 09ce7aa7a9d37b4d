// Functions of one element, on raw pointers.
#pragma once
#include "dtype.hpp"
#include "isa.hpp"

namespace cvperf {

// What their two parameters are: leaky_relu: slope; elu: alpha and what the result is multiplied by; clamp: least and
// greatest; softplus: beta and the threshold from which on it is the identity. The others have none.
enum class Unary : int {
  relu,
  relu6,
  silu,
  hardswish,
  hardsigmoid,
  sigmoid,
  leaky_relu,
  tanh,
  gelu,
  gelu_tanh,
  elu,
  exp,
  sqrt,
  rsqrt,
  reciprocal,
  neg,
  abs,
  clamp,
  softplus,
  mish
};

// Computed in float32, rounded once.
struct UnaryArgs {
  Unary kind;
  float parameters[2];
  const void* input;
  void* output;
  std::int64_t count;
  DType dtype;  // f16, bf16 or f32
  int num_threads;
};

CVPERF_DISPATCHED(void, unary, UnaryArgs)

}  // namespace cvperf
