// RoI Align (He et al., "Mask R-CNN", 2017): each box is divided into pooled_height x pooled_width bins, and a
// bin is the mean of bilinear samples on a regular grid within it.
#pragma once
#include <cstdint>

#include "dtype.hpp"
#include "isa.hpp"
#include "roi_sampling.hpp"

namespace cvperf {

struct RoiAlignArgs {
  DType dtype;        // f16, bf16, f32, f64: of input and output
  const void* input;  // [images, channels, height, width]
  void* output;       // [count, channels, pooled_height, pooled_width]; every element is written
  std::int64_t channels;
  bool channels_last;  // both are laid out [., height, width, channels]; otherwise both are contiguous
  RoiGeometry roi;     // boxes are float64 if dtype is f64, else float32; image indices lie in [0, images)
};

struct RoiAlignBackwardArgs {
  DType dtype;       // of grad and grad_input
  const void* grad;  // [count, channels, pooled_height, pooled_width]
  void* grad_input;  // [images, channels, height, width]; every element is written
  std::int64_t channels;
  bool channels_last;  // of both
  RoiGeometry roi;
};

CVPERF_DISPATCHED(void, roi_align, RoiAlignArgs)
CVPERF_DISPATCHED(void, roi_align_backward, RoiAlignBackwardArgs)

}  // namespace cvperf
