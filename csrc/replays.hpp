// Calls that were checked once and are run again.
#pragma once
#include "bindings.hpp"

namespace cvperf {

// A kernel's call for tensors of known layout: all of it but the addresses.
class Call {
 public:
  virtual ~Call() = default;
  // read: the addresses of what the kernel reads, in its own order; 0 for what is absent.
  virtual void run(void* const* read, void* output, int num_threads) const = 0;
  virtual std::size_t reads() const = 0;  // how many addresses
};

}  // namespace cvperf
