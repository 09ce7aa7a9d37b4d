// Which thread of the team is running: where its part of scratch memory lies.
#pragma once

#if defined(_OPENMP)
extern "C" int omp_get_thread_num();  // omp.h is not needed for this one
#endif

namespace cvperf {

// Inlined, as it is compiled for every instruction set (see buffer.hpp).
inline __attribute__((always_inline)) int thread_index() {
#if defined(_OPENMP)
  return omp_get_thread_num();
#else
  return 0;
#endif
}

}  // namespace cvperf
