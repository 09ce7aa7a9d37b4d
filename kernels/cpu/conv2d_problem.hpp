// A convolution in the general form that both the forward pass and the input gradient take: every output point
// sums over a grid of taps, and each tap reads the image at (row * stride + tap.offset). The input gradient of a
// strided layer is one such problem for each residue of the pixel modulo the stride (conv2d_backward.cpp).
#pragma once
#include <cstdint>

#include "activation_kind.hpp"
#include "dtype.hpp"

namespace cvperf {
namespace CVPERF_ISA {

struct Tap {
  std::int64_t offset;  // rows (or columns) of the image from the output point's origin; may be negative
  std::int64_t weight;  // elements from the start of a filter
};

struct ConvProblem {
  DType dtype;
  int num_threads;
  bool channels_last;
  Activation activation;
  const void* in;
  const void* weight;
  const void* bias;
  const void* residual;  // strides as out
  void* out;
  std::int64_t batch, groups, channels, filters;  // channels in and filters out of ONE group
  std::int64_t in_height, in_width, out_height, out_width;
  std::int64_t stride[2];  // image rows and columns from one output point to the next
  const Tap* tap_rows;
  const Tap* tap_columns;
  std::int64_t num_tap_rows, num_tap_columns;
  std::int64_t in_batch, in_channel, in_row, in_column;  // strides, elements
  std::int64_t out_batch, out_channel, out_row, out_column;
  std::int64_t weight_group, weight_filter, weight_channel;

  std::int64_t taps() const { return num_tap_rows * num_tap_columns; }
  std::int64_t depth() const { return taps() * channels; }
};

void run_channels_last(const ConvProblem& problem);  // in_channel == 1 and out_channel == 1
void run_planar(const ConvProblem& problem);         // in_column == 1
bool run_depthwise(const ConvProblem& problem);      // false if the problem is not one channel in, one filter out
bool run_first_layer(const ConvProblem& problem);    // false if the problem is not dense with few channels

}  // namespace CVPERF_ISA
}  // namespace cvperf
