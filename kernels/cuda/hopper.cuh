// What sm_90a has beside device.cuh: barriers in shared memory that count arrivals and bytes (mbarrier), tensor copies
// that complete on them (TMA), and products of a warpgroup from shared memory (wgmma, in wgmma.cuh).
//
// The pattern (kernels/cuda/int8_gemm_hopper.cu): a warp waits for a free stage, announces its bytes by
// barrier_arrive_expect and starts tensor copies into it; other warpgroups wait for the bytes, multiply, wait for their
// products, and arrive at the barrier that says the stage is free. Parities alternate: the first phase of a barrier is
// 0, and waiting for parity 1 of a new barrier returns at once.
//
// Orders that must be kept, and that the emulator holds kernels to:
//   barrier_init, fence_barrier_init, __syncthreads, then the rest;
//   ordinary stores to shared memory, fence_async, a barrier, then tile_store or wgmma from it;
//   wgmma_fence, wgmma ..., wgmma_commit, wgmma_wait, then the sums; also before the factors are overwritten.
#pragma once
#include "device.cuh"

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)

namespace gpu {

using Barrier = unsigned long long;

// A tensor as tensor copies see it; `const __grid_constant__ TensorMap` as a parameter of a kernel.
struct alignas(64) TensorMap {
  unsigned long long opaque[16];
};

// A phase ends with `arrivals` arrivals and all bytes that were announced.
__device__ __forceinline__ void barrier_init(Barrier* at, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0],%1;" ::"r"(shared_address(at)), "r"(arrivals) : "memory");
}
// The barriers that this thread made are known to tensor copies; a __syncthreads tells the other threads.
__device__ __forceinline__ void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void barrier_arrive(Barrier* at) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _,[%0];" ::"r"(shared_address(at)) : "memory");
}
// Arrive, and let this phase wait for `bytes` more.
__device__ __forceinline__ void barrier_arrive_expect(Barrier* at, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _,[%0],%1;" ::"r"(shared_address(at)), "r"(bytes) : "memory");
}
// Until the phase of this parity is over.
__device__ __forceinline__ void barrier_wait(Barrier* at, unsigned parity) {
  unsigned over;
  do {
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p,[%1],%2;\n"
        "selp.u32 %0,1,0,p;\n}"
        : "=r"(over)
        : "r"(shared_address(at)), "r"(parity)
        : "memory");
  } while (!over);
}

// What this thread stored to shared memory is there for tensor copies and wgmma; then a barrier.
__device__ __forceinline__ void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ __forceinline__ unsigned long long map_address(const TensorMap& map) {
  return reinterpret_cast<unsigned long long>(&map);
}
__device__ __forceinline__ void prefetch(const TensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map_address(map)) : "memory");
}

// The tile at these coordinates (fastest first) to shared memory, zeros outside of the tensor; one thread calls it. All
// bytes of the tile, zeros too, count at the barrier. tile_store is the way back: commit and wait for it.
#define GPU_TILES(RANK, LOAD_COORDINATES, STORE_COORDINATES, PARAMETERS, ...)                                   \
  __device__ __forceinline__ void tile_load(void* shared, const TensorMap& map, Barrier* barrier, PARAMETERS) { \
    asm volatile("cp.async.bulk.tensor." RANK                                                                   \
                 ".shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0],[%1,{" LOAD_COORDINATES        \
                 "}],[%2];" ::"r"(shared_address(shared)),                                                      \
                 "l"(map_address(map)), "r"(shared_address(barrier)), __VA_ARGS__                               \
                 : "memory");                                                                                   \
  }                                                                                                             \
  __device__ __forceinline__ void tile_store(const TensorMap& map, const void* shared, PARAMETERS) {            \
    asm volatile("cp.async.bulk.tensor." RANK ".global.shared::cta.tile.bulk_group [%1,{" STORE_COORDINATES     \
                 "}],[%0];" ::"r"(shared_address(shared)),                                                      \
                 "l"(map_address(map)), __VA_ARGS__                                                             \
                 : "memory");                                                                                   \
  }
#define GPU_COMMA ,
GPU_TILES("2d", "%3,%4", "%2,%3", int c0 GPU_COMMA int c1, "r"(c0), "r"(c1))
GPU_TILES("3d", "%3,%4,%5", "%2,%3,%4", int c0 GPU_COMMA int c1 GPU_COMMA int c2, "r"(c0), "r"(c1), "r"(c2))
GPU_TILES("4d", "%3,%4,%5,%6", "%2,%3,%4,%5", int c0 GPU_COMMA int c1 GPU_COMMA int c2 GPU_COMMA int c3, "r"(c0),
          "r"(c1), "r"(c2), "r"(c3))
GPU_TILES("5d", "%3,%4,%5,%6,%7", "%2,%3,%4,%5,%6",
          int c0 GPU_COMMA int c1 GPU_COMMA int c2 GPU_COMMA int c3 GPU_COMMA int c4, "r"(c0), "r"(c1), "r"(c2),
          "r"(c3), "r"(c4))
#undef GPU_COMMA
#undef GPU_TILES

// Of an im2col map [N, H, W, C]: channels from c of the pixels that tap (right, down) meets, for windows that follow
// each other from the one that begins at pixel (w, h) of image n. Pixels outside are zeros.
__device__ __forceinline__ void im2col_load(void* shared, const TensorMap& map, Barrier* barrier, int c, int w, int h,
                                            int n, int right, int down) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes "
      "[%0],[%1,{%3,%4,%5,%6}],[%2],{%7,%8};" ::"r"(shared_address(shared)),
      "l"(map_address(map)), "r"(shared_address(barrier)), "r"(c), "r"(w), "r"(h), "r"(n),
      "h"(static_cast<unsigned short>(right)), "h"(static_cast<unsigned short>(down))
      : "memory");
}

__device__ __forceinline__ void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Of the stores of this thread, all but the latest N groups have read shared memory (have been written).
template <int N>
__device__ __forceinline__ void bulk_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(N) : "memory");
}
template <int N>
__device__ __forceinline__ void bulk_wait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(N) : "memory");
}

// Each thread of the warpgroup has so many registers from here on, a multiple of 8. All its warps, in one branch.
template <int COUNT>
__device__ __forceinline__ void registers_decrease() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT>
__device__ __forceinline__ void registers_increase() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

// The same number, but the compiler cannot know it and computes what depends on it no earlier than here.
__device__ __forceinline__ int computed_here(int x) {
  asm volatile("" : "+r"(x));
  return x;
}

}  // namespace gpu
#include "wgmma.cuh"
#else
#include "../emulator/hopper.hpp"
#endif

namespace gpu {

/// A factor of wgmma in shared memory: tiles of 8 rows of SPAN bytes (32, 64, 128: its swizzle), `stride` bytes from
/// one to the next. Advance it by 32 bytes of K with `+ 2`.
template <int SPAN>
__device__ __forceinline__ unsigned long long matrix_descriptor(const void* shared, unsigned stride) {
  static_assert(SPAN == 32 || SPAN == 64 || SPAN == 128, "the spans of a swizzle");
  constexpr unsigned long long MODE = SPAN == 128 ? 1 : SPAN == 64 ? 2 : 3;
  return static_cast<unsigned long long>((shared_address(shared) & 0x3ffff) >> 4) | 1ull << 16 |
         static_cast<unsigned long long>(stride >> 4) << 32 | MODE << 62;
}

/// The same without swizzle: matrices of 8 x 16 bytes, `leading` bytes from one to the next in K, `stride` in rows.
__device__ __forceinline__ unsigned long long matrix_descriptor(const void* shared, unsigned leading, unsigned stride) {
  return static_cast<unsigned long long>((shared_address(shared) & 0x3ffff) >> 4) |
         static_cast<unsigned long long>(leading >> 4) << 16 | static_cast<unsigned long long>(stride >> 4) << 32;
}

}  // namespace gpu
