// Arithmetic of two tensors, on raw pointers.
#pragma once
#include "activation_kind.hpp"
#include "dtype.hpp"
#include "isa.hpp"

namespace cvperf {

// reverse_subtract is b - a, reverse_divide b / a. The maximum and the minimum with NaN are NaN.
enum class Arithmetic : int { add, subtract, multiply, divide, maximum, minimum, reverse_subtract, reverse_divide };

constexpr int kBinaryDims = 4;

// activation(a kind b), computed in float32 and rounded once.
struct BinaryArgs {
  Arithmetic kind;
  Activation activation;
  DType dtype;                      // f16, bf16 or f32
  std::int64_t shape[kBinaryDims];  // of the output, which is dense in this order; sizes of 1 go ahead
  std::int64_t a_strides[kBinaryDims], b_strides[kBinaryDims];  // in elements; 0 repeats
  const void *a, *b;
  const float* constant;  // in place of b; may be null
  void* output;
  int num_threads;
};

CVPERF_DISPATCHED(void, binary, BinaryArgs)

}  // namespace cvperf
