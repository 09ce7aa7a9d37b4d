// INT8 convolution as an implicit matrix product on the tiles of int8_product.cpp: rows are output pixels, columns
// are filters, K is (kernel row, kernel column, channel).
//
// No image is unfolded in memory: a task gathers the windows of its block of pixels into scratch that stays in L2.
// A kernel row of a channels-last image is one run of bytes, so a 3x3 window is three copies; they cost a few percent
// of the products unless there are few filters. Padding reads as the input's zero point, which is a real zero.
// A 1x1 layer of stride 1 is the matrix product itself.
// Source: Chellapilla et al., "High Performance Convolutional Neural Networks for Document Processing", 2006 (the
// unfolding); blocked as in Goto and van de Geijn.
#include "conv2d_int8.hpp"

#include "conv2d_int8_depthwise.hpp"
#include "int8_product.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

void fill(AElement* to, std::int64_t count, AElement value) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = value;
}

// The whole window of one output pixel whose kernel rows are short runs of bytes, inside the image.
template <class T>
CVPERF_INLINE void gather_short(const T* from, std::int64_t row_pitch, std::int64_t rows, std::int64_t run,
                                AElement* to) {
  for (std::int64_t row = 0; row < rows; ++row, from += row_pitch, to += run) widen_short(from, run, to);
}

// Elements k0 .. k0 + count of the windows of `rows` output pixels from m0 on.
template <class T>
void gather(const Conv2dInt8Args& args, std::int64_t group, std::int64_t m0, std::int64_t rows, std::int64_t k0,
            std::int64_t count, AElement* out, std::int64_t stride) {
  const Conv2dShape& s = args.shape;
  const std::int64_t channels = s.in_channels / s.groups, run = s.kernel[1] * channels;
  const bool dense = s.groups == 1 && s.dilation[1] == 1;
  const AElement zero = static_cast<AElement>(args.zero_point + (kSigned<T> ? kShift : 0));
  const std::int64_t row_pitch = s.in_width * s.in_channels, plane = s.out_height * s.out_width;
  const T* const image = static_cast<const T*>(args.input) + group * channels;
  const bool is_short = dense && s.dilation[0] == 1 && run <= kShortRun && count == s.kernel[0] * run;
  std::int64_t n = m0 / plane, y = m0 % plane / s.out_width, x = m0 % s.out_width;
  for (std::int64_t r = 0; r < rows; ++r, out += stride) {
    AElement* to = out;
    std::int64_t kernel_row = k0 / run, at = k0 % run;  // `at` in the kernel row
    const std::int64_t left = x * s.stride[1] - s.padding[1], top = y * s.stride[0] - s.padding[0];
    const bool inside = left >= 0 && left + s.kernel[1] <= s.in_width && top >= 0 && top + s.kernel[0] <= s.in_height;
    if (is_short && inside)
      gather_short(image + (n * s.in_height + top) * row_pitch + left * channels, row_pitch, s.kernel[0], run, out);
    for (std::int64_t rest = is_short && inside ? 0 : count; rest > 0; ++kernel_row, at = 0) {
      const std::int64_t row = top + kernel_row * s.dilation[0];
      std::int64_t in_row = run - at < rest ? run - at : rest;
      rest -= in_row;
      const T* from = image + (n * s.in_height + row) * row_pitch;
      if (row < 0 || row >= s.in_height) {
        fill(to, in_row, zero);
        to += in_row;
      } else if (dense && left >= 0 && left + s.kernel[1] <= s.in_width) {
        widen(from + left * s.in_channels + at, in_row, to);
        to += in_row;
      } else {  // tap by tap
        std::int64_t column = left + at / channels * s.dilation[1], channel = at % channels;
        for (; in_row > 0; column += s.dilation[1], channel = 0) {
          const std::int64_t piece = channels - channel < in_row ? channels - channel : in_row;
          if (column < 0 || column >= s.in_width)
            fill(to, piece, zero);
          else
            widen(from + column * s.in_channels + channel, piece, to);
          to += piece;
          in_row -= piece;
        }
      }
    }
    if (++x == s.out_width) {
      x = 0;
      if (++y == s.out_height) y = 0, ++n;
    }
  }
}

Rows load(const void* source, std::int64_t group, std::int64_t m0, std::int64_t rows, std::int64_t k0,
          std::int64_t count, AElement* scratch, std::int64_t stride) {
  const Conv2dInt8Args& args = *static_cast<const Conv2dInt8Args*>(source);
  if (args.shape.dtype == DType::i8)
    gather<std::int8_t>(args, group, m0, rows, k0, count, scratch, stride);
  else
    gather<std::uint8_t>(args, group, m0, rows, k0, count, scratch, stride);
  return {scratch, stride};
}

bool is_pointwise(const Conv2dShape& s) {
  bool pointwise = s.groups == 1;
  for (int i = 0; i < 2; ++i) pointwise &= s.kernel[i] == 1 && s.stride[i] == 1 && s.padding[i] == 0;
  return pointwise;
}

}  // namespace

void conv2d_int8(const Conv2dInt8Args& args) {
  const Conv2dShape& s = args.shape;
  const std::int64_t pixels = s.batch * s.out_height * s.out_width;
  if (is_depthwise_int8(s)) return conv2d_int8_depthwise(args);
  if (is_pointwise(s))
    return CVPERF_ISA::int8_gemm({args.input, s.dtype, pixels, s.in_channels, s.out_channels, s.in_channels,
                                  args.packed, args.finish, s.num_threads});
  const std::int64_t k = s.kernel[0] * s.kernel[1] * (s.in_channels / s.groups);
  multiply({pixels, k, s.out_channels / s.groups, s.groups, load, &args, s.dtype == DType::i8, args.packed, args.finish,
            s.num_threads});
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
