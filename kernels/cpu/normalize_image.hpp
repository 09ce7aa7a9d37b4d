// uint8 images to normalised floating point in the other memory layout, on raw pointers.
#pragma once
#include "dtype.hpp"
#include "isa.hpp"

namespace cvperf {

// out = (x - offset) * factor, in float32, rounded once.
struct NormalizeImageArgs {
  const std::uint8_t* x;
  bool to_planes;  // x is [images, pixels, channels] and out [images, channels, pixels], or the other way round
  std::int64_t images, channels, pixels;
  const float* offset;  // [channels]
  const float* factor;  // [channels]
  void* out;
  DType out_dtype;  // f16, bf16 or f32
  int num_threads;
};

CVPERF_DISPATCHED(void, normalize_image, NormalizeImageArgs)

}  // namespace cvperf
