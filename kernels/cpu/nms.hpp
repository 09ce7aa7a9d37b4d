// Non-maximum suppression on raw pointers.
#pragma once
#include <cstdint>

#include "dtype.hpp"
#include "isa.hpp"

namespace cvperf {

struct NmsArgs {
  const void* boxes;            // [n, 4] contiguous: x1, y1, x2, y2
  const void* scores;           // [n] contiguous, the same dtype as boxes
  const std::int64_t* classes;  // [n]; boxes of different classes ignore each other. Null: one class
  DType dtype;                  // f16, bf16 (both computed in float32), f32 or f64
  std::int64_t n;
  double iou_threshold;  // a box goes if its IoU with a kept box of a higher rank is above this
  std::int64_t* keep;    // [n], out: the kept indices by descending score, ties by index
  bool prune;            // false: compare each box with all kept ones. For tests and benchmarks; the answer is the same
  int num_threads;
};

// Returns the number of boxes kept.
CVPERF_DISPATCHED(std::int64_t, nms, NmsArgs)

struct NmsPaddedArgs {
  const void* boxes;   // [batch, n, 4] contiguous
  const void* scores;  // [batch, n] contiguous, the same dtype as boxes
  DType dtype;
  std::int64_t batch, n;
  double iou_threshold;
  std::int64_t max_output;
  std::int64_t* indices;  // [batch, max_output], out: the first kept indices of each image, then -1
  std::int64_t* counts;   // [batch], out: how many are not -1
  int num_threads;
};

CVPERF_DISPATCHED(void, nms_padded, NmsPaddedArgs)

}  // namespace cvperf
