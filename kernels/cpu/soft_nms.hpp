// Soft non-maximum suppression on raw pointers.
#pragma once
#include <cstdint>

#include "dtype.hpp"
#include "isa.hpp"

namespace cvperf {

struct SoftNmsArgs {
  const void* boxes;   // [n, 4] contiguous: x1, y1, x2, y2
  const void* scores;  // [n] contiguous, the same dtype as boxes
  DType dtype;         // f16, bf16 (both computed in float32), f32 or f64
  std::int64_t n;
  bool gaussian;           // a selected box scales the others by exp(-iou^2 / sigma), else by 1 - iou
  double iou_threshold;    // linear only: IoUs up to this leave a score alone
  double sigma;            // gaussian only, > 0
  double score_threshold;  // >= 0: boxes whose score falls below it are gone
  std::int64_t limit;      // at most this many are selected, 0..n
  std::int64_t* indices;   // [limit], out: the boxes in the order they are selected
  void* selected;          // [limit], out: their scores when they are, the same dtype as boxes
};

// Returns the number of boxes selected.
CVPERF_DISPATCHED(std::int64_t, soft_nms, SoftNmsArgs)

}  // namespace cvperf
