// What sm_90a adds, for kernels that include hopper.cuh: mbarriers, tensor copies (TMA), wgmma.
//
// All three are asynchronous. With early copies they have their effect when they are issued; with late ones a product
// reads its operands and changes its sums when it is waited for, a store reads shared memory likewise, and a load lands
// when no thread can go on without it. So a wait that is missing, a wait for the wrong parity, a buffer that is
// refilled too early, and bytes that are miscounted (a deadlock) all show under some schedule.
#pragma once
#include "mbarriers.hpp"
#include "proxy.hpp"
//
#include "tma.hpp"
#include "wgmma.hpp"

namespace gpu {
// Registers are the compiler's business.
template <int COUNT>
void registers_decrease() {}
template <int COUNT>
void registers_increase() {}
inline int computed_here(int x) { return x; }
template <class T, int N>
void keep_in_order(T (&)[N]) {}
}  // namespace gpu
