// RoI Align (He et al., "Mask R-CNN", 2017): each box is divided into pooled_height x pooled_width bins, and a
// bin is the mean of bilinear samples on a regular grid within it. Boxes may read different maps, the levels of
// a feature pyramid; a single map is a pyramid of one.
#pragma once
#include <cstdint>

#include "dtype.hpp"
#include "isa.hpp"
#include "roi_sampling.hpp"

namespace cvperf {

struct RoiAlignArgs {
  DType dtype;                // f16, bf16, f32, f64: of inputs and output
  const void* const* inputs;  // [roi.num_maps]: each map [images, channels, its height, its width]
  void* output;               // [count, channels, pooled_height, pooled_width]; every element is written
  std::int64_t channels;
  bool channels_last;  // all are laid out [., height, width, channels]; otherwise all are contiguous
  RoiGeometry roi;     // boxes are float64 if dtype is f64, else float32; image indices lie in [0, images)
};

struct RoiAlignBackwardArgs {
  DType dtype;               // of grad and grad_inputs
  const void* grad;          // [count, channels, pooled_height, pooled_width]
  void* const* grad_inputs;  // [roi.num_maps]: each [images, channels, its height, its width]; every element is written
  std::int64_t channels;
  bool channels_last;  // of all
  RoiGeometry roi;
};

CVPERF_DISPATCHED(void, roi_align, RoiAlignArgs)
CVPERF_DISPATCHED(void, roi_align_backward, RoiAlignBackwardArgs)

}  // namespace cvperf
