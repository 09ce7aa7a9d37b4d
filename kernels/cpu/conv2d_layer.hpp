// A layer's shape as strides and taps.
#pragma once
#include "conv2d.hpp"
#include "conv2d_problem.hpp"

namespace cvperf {
namespace CVPERF_ISA {

constexpr std::size_t kFewTaps = 8;  // of a side of most kernels

// Element strides of a dense image [N, C, H, W] in either memory order.
struct ImageStrides {
  ImageStrides(std::int64_t channels, std::int64_t height, std::int64_t width, bool channels_last)
      : batch(channels * height * width),
        channel(channels_last ? 1 : height * width),
        row(channels_last ? width * channels : width),
        column(channels_last ? channels : 1) {}
  std::int64_t batch, channel, row, column;
};

// Element strides of a weight [O, C/groups, kh, kw] in either memory order.
struct WeightStrides {
  explicit WeightStrides(const Conv2dShape& s)
      : filter(s.in_channels / s.groups * s.kernel[0] * s.kernel[1]),
        channel(s.weight_channels_last ? 1 : s.kernel[0] * s.kernel[1]),
        row(s.weight_channels_last ? s.kernel[1] * (s.in_channels / s.groups) : s.kernel[1]),
        column(s.weight_channels_last ? s.in_channels / s.groups : 1) {}
  std::int64_t filter, channel, row, column;
};

// The forward problem; `rows` and `columns` are storage for kernel[0] and kernel[1] taps.
inline ConvProblem layer_problem(const Conv2dShape& s, Tap* rows, Tap* columns) {
  const WeightStrides w(s);
  const ImageStrides in(s.in_channels, s.in_height, s.in_width, s.channels_last);
  const ImageStrides out(s.out_channels, s.out_height, s.out_width, s.channels_last);
  for (std::int64_t i = 0; i < s.kernel[0]; ++i) rows[i] = {i * s.dilation[0] - s.padding[0], i * w.row};
  for (std::int64_t i = 0; i < s.kernel[1]; ++i) columns[i] = {i * s.dilation[1] - s.padding[1], i * w.column};
  ConvProblem p{};
  p.dtype = s.dtype;
  // A thread is worth waking for about 10 microseconds of work.
  const std::int64_t work =
      s.batch * s.out_height * s.out_width * s.out_channels * (s.in_channels / s.groups) * s.kernel[0] * s.kernel[1];
  const std::int64_t useful = 1 + work / (1 << 17);
  p.num_threads = useful < s.num_threads ? static_cast<int>(useful) : s.num_threads;
  p.channels_last = s.channels_last;
  p.activation = Activation::none;
  p.batch = s.batch;
  p.groups = s.groups;
  p.channels = s.in_channels / s.groups;
  p.filters = s.out_channels / s.groups;
  p.in_height = s.in_height, p.in_width = s.in_width;
  p.out_height = s.out_height, p.out_width = s.out_width;
  p.stride[0] = s.stride[0], p.stride[1] = s.stride[1];
  p.tap_rows = rows, p.num_tap_rows = s.kernel[0];
  p.tap_columns = columns, p.num_tap_columns = s.kernel[1];
  p.in_batch = in.batch, p.in_channel = in.channel, p.in_row = in.row, p.in_column = in.column;
  p.out_batch = out.batch, p.out_channel = out.channel, p.out_row = out.row, p.out_column = out.column;
  p.weight_group = p.filters * w.filter, p.weight_filter = w.filter, p.weight_channel = w.channel;
  return p;
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
