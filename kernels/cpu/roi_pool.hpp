// RoI max pooling (Girshick, "Fast R-CNN", 2015): each box is rounded to whole pixels and divided into
// pooled_height x pooled_width bins, and a bin is the largest of its pixels.
#pragma once
#include <cstdint>

#include "dtype.hpp"
#include "isa.hpp"

namespace cvperf {

struct RoiPoolArgs {
  DType dtype;           // f16, bf16, f32, f64: of input and output
  const void* input;     // [images, channels, height, width]
  const void* boxes;     // [count, 5]: image, x1, y1, x2, y2; float64 if dtype is f64, else float32
  void* output;          // [count, channels, pooled_height, pooled_width]; an empty bin is 0
  std::int32_t* argmax;  // as output: y * width + x of the first largest pixel; -1: none
  std::int64_t count, images, channels, height, width, pooled_height, pooled_width;
  double spatial_scale;  // map pixels per unit of the boxes
  bool channels_last;    // input, output and argmax are laid out [., height, width, channels]
  int num_threads;
};

struct RoiPoolBackwardArgs {
  DType dtype;                 // of grad and grad_input
  const void* grad;            // [count, channels, pooled_height, pooled_width]
  const void* boxes;           // as in the forward; only the image indices are read
  const std::int32_t* argmax;  // as grad; what lies outside the map is ignored
  void* grad_input;            // [images, channels, height, width]; every element is written
  std::int64_t count, images, channels, height, width, pooled_height, pooled_width;
  bool channels_last;
  int num_threads;
};

CVPERF_DISPATCHED(void, roi_pool, RoiPoolArgs)
CVPERF_DISPATCHED(void, roi_pool_backward, RoiPoolBackwardArgs)

}  // namespace cvperf
