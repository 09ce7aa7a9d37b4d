// Resizing channels-last images, on raw pointers.
#pragma once
#include "dtype.hpp"
#include "isa.hpp"

namespace cvperf {

enum class Interpolation : int { nearest, bilinear };

// By torch's rules: position i of the output is i / scale of the input (`nearest`: its floor), (i + 0.5) / scale - 0.5
// (`bilinear`), or such that the corners' centres meet (align_corners).
struct InterpolateArgs {
  std::int64_t images, channels;
  std::int64_t in[2], out[2];  // height, width
  Interpolation mode;
  bool align_corners;  // of `bilinear` only
  double scale[2];     // output's size over the input's; 0: of the sizes above
  DType dtype;         // f16, bf16 or f32; any for `nearest`
  const void* input;   // [N, H, W, C]
  void* output;        // [N, OH, OW, C]
  int num_threads;
};

CVPERF_DISPATCHED(void, interpolate, InterpolateArgs)

}  // namespace cvperf
