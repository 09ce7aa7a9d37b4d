// Masks of detected objects, resized into their boxes within the image, on raw pointers.
#pragma once
#include <cstdint>

#include "dtype.hpp"
#include "isa.hpp"

namespace cvperf {

struct PasteMasksArgs {
  const void* masks;   // [count, side, side] contiguous
  DType dtype;         // of the masks, and of the output if it is soft: f16, bf16 (both computed in float32), f32, f64
  const void* boxes;   // [count, 4] contiguous: x1, y1, x2, y2 in pixels
  DType box_dtype;     // f32 or f64
  std::int64_t count;  // of masks
  std::int64_t side;   // of a mask, 1 or more
  std::int64_t padding;  // zeros put around a mask before it is resized, 0 or more
  std::int64_t height;   // of the image
  std::int64_t width;
  bool hard;  // the output is `value > threshold` as bytes 0 and 1
  double threshold;
  void* out;  // [count, height, width]
  int num_threads;
};

CVPERF_DISPATCHED(void, paste_masks, PasteMasksArgs)

}  // namespace cvperf
