// A dense row of elements, cut into pieces for the threads.
#pragma once
#include "channel_runs.hpp"

namespace cvperf {
namespace CVPERF_ISA {

// work(first, count) for every piece.
template <class Work>
void for_each_piece(std::int64_t elements, bool past_caches, int num_threads, const Work& work) {
  const int threads = elements < kAloneElements ? 1 : num_threads;
  const std::int64_t pieces = (elements + kPlaneElements - 1) / kPlaneElements;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
#pragma omp for schedule(static) nowait
    for (std::int64_t piece = 0; piece < pieces; ++piece) {
      const std::int64_t first = piece * kPlaneElements, left = elements - first;
      work(first, left < kPlaneElements ? left : kPlaneElements);
    }
    if (past_caches) settle_streams();
  }
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
