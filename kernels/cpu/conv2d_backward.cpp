// Input gradient of a 2-D convolution, as forward convolutions of the output's gradient.
//
// Image pixel i receives from output o through tap k where o * stride = i + padding - k * dilation. With stride 1
// this is one convolution with the taps reversed. With a larger stride, the pixels of one residue modulo the
// stride see the same subset of taps at consecutive outputs, so each residue is a convolution of stride 1 with
// just those taps: nothing is multiplied by the zeros that a dilated gradient would hold.
#include "buffer.hpp"
#include "conv2d.hpp"
#include "conv2d_layer.hpp"
#include "pages.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

// The taps that pixels of one residue see, nearest output first; returns how many.
std::int64_t taps_of_residue(const Conv2dShape& s, int axis, std::int64_t residue, std::int64_t weight_stride,
                             Tap* taps) {
  std::int64_t count = 0;
  for (std::int64_t k = s.kernel[axis] - 1; k >= 0; --k) {
    const std::int64_t distance = residue + s.padding[axis] - k * s.dilation[axis];
    if (distance % s.stride[axis] == 0) taps[count++] = {distance / s.stride[axis], k * weight_stride};
  }
  return count;
}

}  // namespace

void conv2d_input_grad(const Conv2dInputGradArgs& a) {
  const Conv2dShape& s = a.shape;
  Buffer<Tap, kFewTaps> rows(s.kernel[0]), columns(s.kernel[1]);
  const WeightStrides w(s);
  const ImageStrides in(s.in_channels, s.in_height, s.in_width, s.channels_last);
  const ImageStrides out(s.out_channels, s.out_height, s.out_width, s.channels_last);
  const std::int64_t size = size_of(s.dtype);
  prefer_huge_pages(a.grad_input, static_cast<std::size_t>(s.batch * in.batch * size));
  ConvProblem p = layer_problem(s, rows.data(), columns.data());
  p.in = a.grad_output;
  p.weight = a.weight;
  p.channels = s.out_channels / s.groups;
  p.filters = s.in_channels / s.groups;
  p.in_height = s.out_height, p.in_width = s.out_width;
  p.stride[0] = p.stride[1] = 1;
  p.in_batch = out.batch, p.in_channel = out.channel, p.in_row = out.row, p.in_column = out.column;
  p.out_batch = in.batch, p.out_channel = in.channel;
  p.out_row = in.row * s.stride[0], p.out_column = in.column * s.stride[1];
  p.weight_filter = w.channel, p.weight_channel = w.filter;
  for (std::int64_t y = 0; y < s.stride[0] && y < s.in_height; ++y) {
    p.num_tap_rows = taps_of_residue(s, 0, y, w.row, rows.data());
    p.out_height = (s.in_height - y + s.stride[0] - 1) / s.stride[0];
    for (std::int64_t x = 0; x < s.stride[1] && x < s.in_width; ++x) {
      p.num_tap_columns = taps_of_residue(s, 1, x, w.column, columns.data());
      p.out_width = (s.in_width - x + s.stride[1] - 1) / s.stride[1];
      p.out = static_cast<char*>(a.grad_input) + (y * in.row + x * in.column) * size;
      p.algorithm = choose(p, a.algorithm, false);
      run(p);
    }
  }
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
