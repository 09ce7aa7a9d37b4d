// mbarriers: barriers that count arrivals of threads and bytes of copies, phase after phase.
#pragma once
#include "emulator.hpp"

namespace emulator {

// The barrier at this address; an error if there is none, or if something wrote over it.
Mbarrier& mbarrier(const void* address, const char* what, Place place);
// A phase ends with its last arrival and its last byte, whichever comes later.
void end_phase_if_complete(Mbarrier& one);

}  // namespace emulator

namespace gpu {

using Barrier = unsigned long long;

void barrier_init(Barrier* at, int arrivals, EMULATOR_HERE);
void fence_barrier_init();
void barrier_arrive(Barrier* at, EMULATOR_HERE);
void barrier_arrive_expect(Barrier* at, unsigned bytes, EMULATOR_HERE);
void barrier_wait(Barrier* at, unsigned parity, EMULATOR_HERE);

}  // namespace gpu
