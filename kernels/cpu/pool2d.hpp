// Pooling of channels-last images, on raw pointers.
#pragma once
#include "dtype.hpp"
#include "isa.hpp"

namespace cvperf {

// The layer. Pairs are (height, width). Padding is that of the top and left; the far sides follow from the output's
// size, which is at most one window more than fits (torch's ceil_mode).
struct Pool2dShape {
  std::int64_t images, channels;
  std::int64_t in[2], out[2];
  std::int64_t kernel[2], stride[2], padding[2], dilation[2];  // not read if adaptive
  bool adaptive;  // window i of `out` is from floor(i * in / out) to ceil((i + 1) * in / out)
};

// The largest element of each window; NaN if one is, the lowest number (-inf) if the window has padding only.
struct MaxPool2dArgs {
  Pool2dShape shape;  // not adaptive
  DType dtype;        // f16, bf16, f32, i8 or u8
  const void* input;  // [N, H, W, C]
  void* output;       // [N, OH, OW, C]
  int num_threads;
};

// The sum of each window, in float32 or exact, over the number of its elements; 0 if the window has padding only.
struct AvgPool2dArgs {
  Pool2dShape shape;              // dilation 1
  bool count_include_pad;         // padding counts as elements, up to that of the far sides
  std::int64_t divisor_override;  // in place of their number, unless 0
  DType dtype;                    // f16, bf16, f32, i8 or u8
  const void* input;              // [N, H, W, C]
  void* output;                   // [N, OH, OW, C]
  int num_threads;
  // Of bytes, which stand for (x - zero) * scale; a window has fewer than 2^23. An output of bytes is
  // clamp(round(mean * out_inverse) + out_zero), rounded half to even.
  float scale, out_inverse;
  std::int32_t zero, out_zero;
  DType out_dtype;  // any of those for bytes, `dtype` otherwise
};

CVPERF_DISPATCHED(void, max_pool2d, MaxPool2dArgs)
CVPERF_DISPATCHED(void, avg_pool2d, AvgPool2dArgs)

}  // namespace cvperf
