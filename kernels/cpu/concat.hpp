// Concatenation along one dimension, on raw pointers. Taking a range of a dimension is the same copy of one part.
#pragma once
#include "isa.hpp"

#include <cstdint>

namespace cvperf {

struct ConcatPart {
  const void* from;
  std::int64_t pitch;  // bytes from one row to the next
  std::int64_t bytes;  // of a row that are copied
};

// A row of the output is a row of each part, one after the other; rows of the output are dense.
struct ConcatArgs {
  const ConcatPart* parts;
  std::int64_t count;  // of parts
  std::int64_t rows;
  void* output;
  int num_threads;
};

CVPERF_DISPATCHED(void, concat, ConcatArgs)

}  // namespace cvperf
