// Memory for large outputs and scratch, handed out again after its user is gone.
#pragma once
#include <cstddef>

namespace cvperf {

// Begins at the border of a huge page; from two of them on they are huge, if the system has such. Not initialised.
struct LargeBlock {
  void* data = nullptr;
  std::size_t bytes = 0;
};

// Throws std::bad_alloc.
LargeBlock take_large_block(std::size_t bytes);
void give_large_block(const LargeBlock& block);

// How much of blocks that were given back is kept for later ones; none at first.
void keep_large_blocks(std::size_t bytes);

}  // namespace cvperf
