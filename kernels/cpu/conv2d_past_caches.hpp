// When a channels-last convolution stores its outputs past the caches. Each of its threads then ends with
// settle_streams().
#pragma once
#include "conv2d_problem.hpp"
#include "streaming.hpp"

namespace cvperf {
namespace CVPERF_ISA {

// Of float32 problems.
inline bool exceeds_caches(const ConvProblem& p) {
  return 4 * p.batch * (p.in_height * p.in_row + p.out_height * p.out_row) >= kPastCachesBytes;
}

// Whether the problem is one of float32 and each run of `run` outputs, which a pixel has side by side, is whole aligned
// vectors. All strides count: pixels of a strided layer's input gradient lie further apart than their runs are long.
inline bool writes_aligned_vectors(const ConvProblem& p, std::int64_t run) {
  constexpr std::int64_t lanes = kLanes<float>;
  return p.dtype == DType::f32 && vector_aligned(p.out) && run % lanes == 0 && p.out_column % lanes == 0 &&
         p.out_row % lanes == 0 && p.out_batch % lanes == 0;
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
