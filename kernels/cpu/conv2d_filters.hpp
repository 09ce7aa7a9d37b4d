// The packed filters of one call: the caller's, or packed here.
#pragma once
#include "buffer.hpp"
#include "conv2d_problem.hpp"

namespace cvperf {
namespace CVPERF_ISA {

class Filters {
 public:
  explicit Filters(const ConvProblem& p)
      : own_(p.packed ? 0 : static_cast<std::size_t>(dense_packed_bytes(p))), packed_(p.packed) {
    if (packed_) return;
    pack_filters(p, own_.data());
    packed_ = own_.data();
  }
  const void* packed() const { return packed_; }

 private:
  Buffer<char> own_;
  const void* packed_;
};

}  // namespace CVPERF_ISA
}  // namespace cvperf
