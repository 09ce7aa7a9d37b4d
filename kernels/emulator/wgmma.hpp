// wgmma: products of a warpgroup (128 threads), both factors in shared memory, K fastest. Where the elements lie is in
// the PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions": fragments, layouts of shared memory, descriptors.
#pragma once
#include "proxy.hpp"

namespace emulator {

// Queues sums[64, columns] += a[64, K] * b[columns, K], factors by their descriptors.
template <class A, class D>
void start_product(D* sums, int columns, std::uint64_t a, std::uint64_t b, bool accumulate, Place place);

}  // namespace emulator

namespace gpu {

// sums[64, N] = a[64, K] * b[N, K], added to the sums that are there if `accumulate`. 8 bits, b signed: K = 32.
template <class A, int N>
void wgmma(int (&sums)[N / 2], unsigned long long a, unsigned long long b, bool accumulate, EMULATOR_HERE) {
  static_assert(sizeof(A) == 1 && N % 16 == 0 && N <= 256, "64 x N x 32 of 8 bits");
  emulator::start_product<A>(sums, N, a, b, accumulate, place);
}
// 16 bits: K = 16.
template <class A, int N>
void wgmma(float (&sums)[N / 2], unsigned long long a, unsigned long long b, bool accumulate, EMULATOR_HERE) {
  static_assert(sizeof(A) == 2 && N % 8 == 0 && N <= 256, "64 x N x 16 of 16 bits");
  emulator::start_product<A>(sums, N, a, b, accumulate, place);
}

inline void wgmma_fence() { emulator::block.running->products_fenced = true; }
inline void wgmma_commit() { emulator::commit(emulator::block.running->products); }
// All products of this warp but those of the latest N groups are done.
template <int N>
void wgmma_wait(EMULATOR_HERE) {
  emulator::Thread& me = *emulator::block.running;
  emulator::wait_for(me.products, N);
  me.products_fenced = false;
  emulator::warp_operation("wgmma_wait", 0xffffffffu, nullptr, nullptr, place);
}

}  // namespace gpu
