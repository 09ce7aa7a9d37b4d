// Copies between layouts and element types, on raw pointers.
#pragma once
#include "dtype.hpp"
#include "isa.hpp"

namespace cvperf {

constexpr int kCopyDims = 6;

// Between dtypes: f32, f16, bf16, i8 and u8, through float32, rounded once; to 8 bits what lies after the point is
// dropped, and a number that does not fit is not defined, as in torch. Equal dtypes may be any: the bits are copied.
struct CopyArgs {
  const void* input;
  DType input_dtype;
  void* output;
  DType output_dtype;
  int dims;
  std::int64_t shape[kCopyDims];  // the dimension with the largest step of `write` first
  std::int64_t read[kCopyDims];   // elements of the input from one index to the next; 0 repeats
  std::int64_t write[kCopyDims];  // likewise of the output; no two indices meet
  int num_threads;
};

CVPERF_DISPATCHED(void, copy, CopyArgs)

}  // namespace cvperf
