// A convolution in the general form that both the forward pass and the input gradient take: every output point
// sums over a grid of taps, and each tap reads the image at (row * stride + tap.offset). The input gradient of a
// strided layer is one such problem for each residue of the pixel modulo the stride (conv2d_backward.cpp).
#pragma once
#include <cstdint>

#include "conv2d.hpp"

namespace cvperf {

// One type for all instruction sets, since kernels of one hand problems to those of another; so its functions must be
// inlined (see buffer.hpp).
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
  const void* packed;   // the weight as pack_filters wrote it for this problem; null where nothing is packed
  Algorithm algorithm;  // never automatic or precise: see choose()
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

  __attribute__((always_inline)) std::int64_t taps() const { return num_tap_rows * num_tap_columns; }
  __attribute__((always_inline)) std::int64_t depth() const { return taps() * channels; }
  // Taps are counted row by row. Elements from the start of a filter to a tap's weight:
  __attribute__((always_inline)) std::int64_t tap_weight(std::int64_t tap) const {
    return tap_rows[tap / num_tap_columns].weight + tap_columns[tap % num_tap_columns].weight;
  }
  // Every output point reads just the pixel at its own place.
  __attribute__((always_inline)) bool is_pointwise() const {
    return taps() == 1 && tap_rows[0].offset == 0 && tap_columns[0].offset == 0 && stride[0] == 1 && stride[1] == 1 &&
           in_height == out_height && in_width == out_width;
  }
};

namespace CVPERF_ISA {

// Runs a problem by p.algorithm; packs the filters first if p.packed is null.
void run(ConvProblem problem);
// The algorithm that runs. `packed`: the filters will not be packed in the call. Throws std::invalid_argument if an
// algorithm is wanted that does not take the problem.
Algorithm choose(const ConvProblem& problem, Algorithm wanted, bool packed);
std::int64_t packed_bytes(const ConvProblem& problem);  // 0 if the problem reads its filters as they are

// For channels-last problems that are not depthwise, by algorithm.
std::int64_t dense_packed_bytes(const ConvProblem& problem);
void pack_filters(const ConvProblem& problem, void* out);
void run_dense_last(const ConvProblem& problem);  // packed must be set

// What each kernel's file offers; the functions above choose among them.
void run_channels_last(const ConvProblem& problem);  // in_channel == 1 and out_channel == 1
std::int64_t channels_last_packed_bytes(const ConvProblem& problem);
void pack_channels_last(const ConvProblem& problem, void* out);
bool winograd_fits(const ConvProblem& problem);
void run_winograd(const ConvProblem& problem);
std::int64_t winograd_packed_bytes(const ConvProblem& problem);
void pack_winograd(const ConvProblem& problem, void* out);
void run_planar(const ConvProblem& problem);  // in_column == 1
bool is_dense_planar(const ConvProblem& problem);
void run_turned(const ConvProblem& problem);       // dense NCHW, not float64, run channels-last
bool run_depthwise(const ConvProblem& problem);    // false if the problem is not one channel in, one filter out
bool run_first_layer(const ConvProblem& problem);  // false if it is not dense with few channels; forward only
bool run_few_filters(const ConvProblem& problem);  // false if it is not a product of pixels with few filters

}  // namespace CVPERF_ISA
}  // namespace cvperf
