// INT8 convolution of a channels-last image: int8 or uint8 times int8, accumulated exactly in int32.
#pragma once
#include <cstdint>

#include "conv2d.hpp"
#include "int8_gemm.hpp"

namespace cvperf {

// Weights are packed by pack_int8. Depthwise (one channel in and one filter out a group, several groups): the matrix
// [kw * whole quads of kh][C], rows in the order (kw, kh), zeros where a quad of kh is not whole. Otherwise a matrix
// [kh * kw * C/groups][O/groups] for each group, one after the other, rows in the order (kh, kw, channel).
struct Conv2dInt8Args {
  Conv2dShape shape;           // channels-last; of dtype i8 or u8, that of the input
  const void* input;           // [N, H, W, C]
  std::int32_t zero_point;     // of the input: what padding reads. finish.zero_a is to point to the same
  const std::uint8_t* packed;  // the weights
  Int8Finish finish;           // m: output pixels [N, OH, OW]; n: filters of a group
};

constexpr bool is_depthwise_int8(const Conv2dShape& s) {
  return s.groups > 1 && s.in_channels == s.groups && s.out_channels == s.groups;
}

// Whether every group's weights fit.
inline bool pairs_fit_int16(const Conv2dInt8Args& args) {
  const Conv2dShape& s = args.shape;
  if (is_depthwise_int8(s))
    return pairs_fit_int16(args.packed, s.kernel[1] * int8_quads(s.kernel[0]) * 4, s.in_channels, 1);
  const std::int64_t k = s.kernel[0] * s.kernel[1] * (s.in_channels / s.groups);
  return pairs_fit_int16(args.packed, k, s.out_channels / s.groups, s.groups);
}

CVPERF_DISPATCHED_BYTES(void, conv2d_int8, Conv2dInt8Args, pairs_fit_int16(args))

}  // namespace cvperf
