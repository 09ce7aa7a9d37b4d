// Between floating point and 8-bit integers, on raw pointers.
#pragma once
#include "channel_view.hpp"
#include "dtype.hpp"
#include "isa.hpp"

namespace cvperf {

// out = clamp(round(x / scale) + zero_point), rounded half to even.
struct QuantizeArgs {
  const void* x;
  DType dtype;         // f16, bf16 or f32
  const float* scale;  // [channels] or [1]
  bool scale_per_channel;
  const std::int32_t* zero_point;  // [channels] or [1]; values that the output can hold
  bool zero_point_per_channel;
  void* out;        // laid out as x
  DType out_dtype;  // i8 or u8
  ChannelView view;
  int num_threads;
};

// out = (x - offset) * factor, in float32, rounded once.
struct DequantizeArgs {
  const void* x;
  DType dtype;          // i8 or u8
  const float* offset;  // [channels]
  const float* factor;  // [channels]
  void* out;            // laid out as x
  DType out_dtype;      // f16, bf16 or f32
  ChannelView view;
  int num_threads;
};

CVPERF_DISPATCHED(void, quantize, QuantizeArgs)
CVPERF_DISPATCHED(void, dequantize, DequantizeArgs)

}  // namespace cvperf
