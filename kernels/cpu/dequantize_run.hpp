// A run of bytes to floating point: (x - offset) * factor.
#pragma once
#include "byte_lanes.hpp"
#include "channel_runs.hpp"

namespace cvperf {
namespace CVPERF_ISA {

// Parameters as runs read them (channel_runs.hpp).
template <class In, bool kEach>
struct Dequantize {
  const In* x;
  Parameter<kEach, float> offset, factor;

  CVPERF_INLINE Vec<float> operator()(std::int64_t i, std::int64_t left) const {
    const Vec<std::int32_t> wide =
        left >= kLanes<float> ? widened(x + i) : widened_partial(x + i, static_cast<int>(left));
    return (__builtin_convertvector(wide, Vec<float>) - offset.at(i)) * factor.at(i);
  }
};

template <class In, bool kEach>
CVPERF_INLINE Dequantize<In, kEach> dequantize_of(Parameters<kEach>, const In* x, const float* offset,
                                                  const float* factor) {
  return {x, Parameter<kEach, float>(offset), Parameter<kEach, float>(factor)};
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
