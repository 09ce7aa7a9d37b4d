// The asynchronous proxy: tensor copies and wgmma see shared memory by a way of their own. What ordinary stores wrote
// is there only after a fence (fence.proxy.async) of the thread that wrote it.
//
// The emulator keeps what that proxy sees beside the real memory, and brings it up to date when any thread fences. So
// it notices a fence that is missing, not one that only some of the threads forgot.
#pragma once
#include "mbarriers.hpp"

namespace emulator {

// Where that proxy sees this byte.
char* asynchronous_view(const char* shared);
void check_in_shared_memory(const char* at, std::size_t bytes, const char* what, Place place);
void check_fenced(const char* shared, std::size_t bytes, const char* what, Place place);

// Operations that are committed and waited for in groups.
void issue(Groups& groups, std::function<void()> effect);
void commit(Groups& groups);
void wait_for(Groups& groups, int newest);

// Bytes of shared memory are permuted within 8 rows of `span` bytes: the 16-byte chunks of row r by an exclusive or
// with r (r / 2, r / 4 for a span of 64, 32). All of it in bits of the address: 4 to 6 change by 7 to 9.
inline unsigned swizzled(unsigned address, unsigned span) { return address ^ (address >> 3 & (span - 1) & ~15u); }

}  // namespace emulator

namespace gpu {
void fence_async();
}  // namespace gpu
