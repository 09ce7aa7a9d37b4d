// A strip of a plane, copied with its padding for NCHW's depthwise and first layers. Columns are split by their
// residue modulo the stride, so that consecutive outputs read consecutive numbers whatever the stride is:
// padded column q is number q / stride of part q % stride.
#pragma once
#include "conv2d_problem.hpp"
#include "shuffle.hpp"

namespace cvperf {
namespace CVPERF_ISA {

class StripLayout {
 public:
  StripLayout(const ConvProblem& p, int lanes) : stride_{p.stride[0], p.stride[1]} {
    top_ = bottom_ = p.tap_rows[0].offset;
    left_ = right_ = p.tap_columns[0].offset;
    for (std::int64_t r = 0; r < p.num_tap_rows; ++r) extend(p.tap_rows[r].offset, top_, bottom_);
    for (std::int64_t c = 0; c < p.num_tap_columns; ++c) extend(p.tap_columns[c].offset, left_, right_);
    const std::int64_t vectors = (p.out_width + lanes - 1) / lanes;
    part_ = vectors * lanes + (right_ - left_) / stride_[1] + 1;
  }
  std::int64_t row_pitch() const { return part_ * stride_[1]; }
  std::int64_t image_rows(std::int64_t out_rows) const { return (out_rows - 1) * stride_[0] + bottom_ - top_ + 1; }
  std::int64_t size(std::int64_t out_rows) const { return image_rows(out_rows) * row_pitch(); }
  // Output rows whose strip has at most `elements`, but at least four.
  std::int64_t rows_for(std::int64_t elements) const {
    std::int64_t rows = 4;
    while (size(rows + 1) <= elements) ++rows;
    return rows;
  }
  // Where a tap of the first output of a row lies, from the start of the strip's row for that output.
  std::int64_t tap_offset(std::int64_t row, std::int64_t column) const {
    const std::int64_t q = column - left_;
    return (row - top_) * row_pitch() + q % stride_[1] * part_ + q / stride_[1];
  }
  std::int64_t top() const { return top_; }
  std::int64_t left() const { return left_; }
  std::int64_t width() const { return right_ - left_ + 1; }  // image columns that one output reads
  std::int64_t part() const { return part_; }
  std::int64_t column_stride() const { return stride_[1]; }

 private:
  static void extend(std::int64_t value, std::int64_t& low, std::int64_t& high) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  std::int64_t stride_[2], top_, bottom_, left_, right_, part_;
};

// Fills the strip for `rows` image rows, from row `first + top` of the plane on (rows outside it are zeros).
template <class T>
void fill_strip(const StripLayout& layout, const T* plane, std::int64_t row_stride, std::int64_t height,
                std::int64_t width, std::int64_t first, std::int64_t rows, Compute<T>* strip) {
  using C = Compute<T>;
  constexpr int lanes = kLanes<C>;
  const std::int64_t step = layout.column_stride(), part = layout.part();
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t y = first + layout.top() + r;
    for (std::int64_t residue = 0; residue < step; ++residue, strip += part) {
      // Number i of this part is image column start + i * step.
      const std::int64_t start = layout.left() + residue;
      std::int64_t low = start < 0 ? (-start + step - 1) / step : 0;
      std::int64_t high = width > start ? (width - start + step - 1) / step : 0;
      if (y < 0 || y >= height) low = high = 0;
      if (low > part) low = part;
      if (high > part) high = part;
      if (high < low) high = low;
      for (std::int64_t i = 0; i < low; ++i) strip[i] = C(0);
      for (std::int64_t i = high; i < part; ++i) strip[i] = C(0);
      const T* from = plane + y * row_stride + start;
      if (step == 1) {
        widen_run(from + low, high - low, strip + low);
        continue;
      }
      std::int64_t i = low;
      if (step == 2) {
        for (; i + lanes < high; i += lanes)
          store(strip + i, even_lanes<C>(load(from + 2 * i), load(from + 2 * i + lanes)));
      }
      for (; i < high; ++i) strip[i] = to_compute(from[i * step]);
    }
  }
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
