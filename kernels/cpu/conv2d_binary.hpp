// Convolution of signs, one bit a number, on raw pointers.
#pragma once
#include <cstdint>

#include "conv2d.hpp"

namespace cvperf {

constexpr std::int64_t kBinaryWord = 32;   // channels in a word; the lowest bit is the first
constexpr std::int64_t kBinaryPanel = 16;  // filters that lie side by side in a packed weight

constexpr std::int64_t binary_words(std::int64_t channels) { return (channels + kBinaryWord - 1) / kBinaryWord; }

// A bit is 1 where x >= 0, which stands for +1; else, and for NaN, it is 0 and stands for -1. Bits of a last word that
// has no channels are 0.
struct PackBitsArgs {
  const void* x;  // [pixels, channels]
  DType dtype;    // f16, bf16 or f32
  std::int64_t pixels, channels;
  std::uint32_t* out;  // [pixels, binary_words(channels)]
  int num_threads;
};

// output = activation(sums * scale + bias), where a sum is the convolution of numbers that are +1 or -1. Padding adds
// nothing to it, as zeros would.
struct Conv2dBinaryArgs {
  Conv2dShape shape;            // channels-last, one group; of dtype f16, bf16 or f32, that of the output
  const std::uint32_t* input;   // [N, H, W, words]
  const std::uint32_t* packed;  // [panels, kh, kw, words, kBinaryPanel]; of filters that are none, anything
  const float* scale;           // [O] or null for 1
  const float* bias;            // [O] or null
  void* output;                 // [N, OH, OW, O]
  Activation activation;
};

CVPERF_DISPATCHED(void, pack_bits, PackBitsArgs)
CVPERF_DISPATCHED_VNNI(void, conv2d_binary, Conv2dBinaryArgs)

}  // namespace cvperf
