// What this processor can do at most: the ceilings that every measured time is held against. Nothing here computes
// anything of use; cvperf/bench/peaks.py times these calls and divides.
#pragma once
#include <cstdint>

#include "dtype.hpp"
#include "isa.hpp"

namespace cvperf {

struct ArithmeticArgs {
  DType dtype;          // f32, f64, bf16, f16: multiply-add; i8: dot product into int32
  std::int64_t rounds;  // a round is 256 steps of every chain on every thread, so that starting one costs nothing
  int num_threads;
};

struct ArithmeticDone {
  double operations;        // of all threads together; a multiply-add is two
  double checksum;          // sum of all accumulators: it makes the work an output, and tests know its value
  const char* instruction;  // what did it
};

struct CopyArgs {
  const void* from;     // [bytes], aligned to 64, as is `to`
  void* to;             // [bytes]
  std::int64_t bytes;   // a multiple of 512
  std::int64_t rounds;  // times that the whole is copied; each thread goes over a slice of its own, without waiting
  bool streaming;       // write past the caches, as memcpy does with blocks larger than they are
  int num_threads;
};

CVPERF_DISPATCHED_VNNI(ArithmeticDone, peak_arithmetic, ArithmeticArgs)
CVPERF_DISPATCHED(void, peak_copy, CopyArgs)

}  // namespace cvperf
