// Where threads meet: barriers of the block, operations of a warp or a warpgroup, waiting for an address.
#pragma once
#include "block.hpp"

namespace emulator {

// Sees what every thread brought, in order of arrival, and may change it. `argument` is what this thread brings.
using Combine = void (*)(const std::vector<Thread*>& threads, const std::vector<void*>& arguments);

// Barrier 0 is for all threads, and none may have ended: a GPU lets some of that pass, another GPU does not.
void block_barrier(const char* what, void* argument, Combine combine, Place place);
void named_barrier(int id, int threads, Place place);

// What the lanes in `mask` bring to an operation, by lane; null for the others.
struct Lanes {
  void* argument[32];
  unsigned mask;
  bool has(int lane) const { return mask >> lane & 1; }
  template <class T>
  T& of(int lane) const {
    return *static_cast<T*>(argument[lane]);
  }
};

// All lanes in `mask` of this thread's warp take part; the last to come does it for all of them.
void warp_operation(const char* what, unsigned mask, void* argument, void (*combine)(const Lanes& lanes), Place place);

// All four warps of a warpgroup must come, whoever is the last goes on.
void meet_warpgroup(const char* what, void* argument, Combine combine, Place place);

// Wait until someone else changes what is at `address`: woken by notify(), the caller looks again.
void wait_for_change(const void* address, const char* what, Place place);
void notify(const void* address);
void wake_watchers(const void* address, void* token);  // as notify() does, with a token that is released already

}  // namespace emulator
