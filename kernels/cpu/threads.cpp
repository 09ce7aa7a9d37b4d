#include "threads.hpp"

#include <stdexcept>
#if defined(__linux__)
#include <sched.h>
#endif

namespace cvperf {

void place_threads(const std::vector<std::vector<int>>& processors) {
#if defined(__linux__)
  const int threads = static_cast<int>(processors.size());
  int refused = 0;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : refused)
  for (int thread = 0; thread < threads; ++thread) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const int processor : processors[thread]) CPU_SET(processor, &set);
    refused += sched_setaffinity(0, sizeof set, &set) != 0;
  }
  if (refused) throw std::runtime_error("the system refused to place a thread on the processors asked for");
#else
  (void)processors;
#endif
}

}  // namespace cvperf
