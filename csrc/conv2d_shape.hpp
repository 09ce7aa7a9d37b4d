// The geometry of a convolution as the bindings take it.
#pragma once
#include <array>

#include "conv2d.hpp"

namespace cvperf {

using Sizes = std::array<std::int64_t, 7>;   // N, C, H, W, O, OH, OW
using Window = std::array<std::int64_t, 8>;  // kernel, stride, padding, dilation, each as height, width

inline Conv2dShape shape_of(const Sizes& sizes, const Window& window, std::int64_t groups, bool channels_last,
                            bool weight_channels_last, DType dtype, int num_threads) {
  return {sizes[0],
          sizes[1],
          sizes[2],
          sizes[3],
          sizes[4],
          sizes[5],
          sizes[6],
          {window[0], window[1]},
          {window[2], window[3]},
          {window[4], window[5]},
          {window[6], window[7]},
          groups,
          channels_last,
          weight_channels_last,
          dtype,
          num_threads};
}

}  // namespace cvperf
