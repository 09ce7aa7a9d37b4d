// The asynchronous proxy: tensor copies and wgmma see shared memory by a way of their own. What ordinary stores wrote
// is there only after a fence (fence.proxy.async) of the thread that wrote it.
//
// The emulator keeps what that proxy sees beside the real memory, and brings it up to date when any thread fences. So
// it notices a fence that is missing, not one that only some of the threads forgot.
#pragma once
#include "mbarriers.hpp"

namespace emulator {

inline char* asynchronous_view(const char* shared) {
  if (block.asynchronous_view.empty()) block.asynchronous_view.assign(kArenaBytes, static_cast<char>(kPoison));
  return block.asynchronous_view.data() + (shared - block.arena);
}

inline void check_in_shared_memory(const char* at, std::size_t bytes, const char* what, Place place) {
  for (const SharedArray& array : block.arrays) {
    if (at >= array.data && at + bytes <= array.data + array.bytes) return;
  }
  fail(std::string(what) + ": outside the block's shared memory", place);
}

inline void check_fenced(const char* shared, std::size_t bytes, const char* what, Place place) {
  const Unwatched emulator;
  if (!std::memcmp(shared, asynchronous_view(shared), bytes)) return;
  fail(std::string(what) + ": reads what was stored to shared memory with no fence_async after it", place);
}

// Operations that are committed and waited for in groups.
inline void issue(Groups& groups, std::function<void()> effect) {
  if (!block.schedule.late_copies) {
    effect();
    effect = nullptr;
  }
  const Unwatched emulator;
  groups.pending.push_back({std::move(effect), groups.committed});
}

inline void commit(Groups& groups) { ++groups.committed; }

inline void wait_for(Groups& groups, int newest) {
  std::size_t over = 0;
  for (; over < groups.pending.size() && groups.pending[over].group < groups.committed - newest; ++over) {
    if (groups.pending[over].effect) groups.pending[over].effect();
  }
  const Unwatched emulator;
  groups.pending.erase(groups.pending.begin(), groups.pending.begin() + over);
}

// Bytes of shared memory are permuted within 8 rows of `span` bytes: the 16-byte chunks of row r by an exclusive or
// with r (r / 2, r / 4 for a span of 64, 32). All of it in bits of the address: 4 to 6 change by 7 to 9.
inline unsigned swizzled(unsigned address, unsigned span) { return address ^ (address >> 3 & (span - 1) & ~15u); }

}  // namespace emulator

namespace gpu {
inline void fence_async() {
  const emulator::Unwatched emulator;
  for (const emulator::SharedArray& array : emulator::block.arrays) {
    std::memcpy(emulator::asynchronous_view(array.data), array.data, array.bytes);
  }
}
}  // namespace gpu
