// Kernels for the tests of what the emulator has of sm_90a. Each does right with fault NONE, and one thing wrong with
// another fault.
#include "hopper.cuh"

enum Fault {
  NONE,
  PARITY,
  REFILL,
  BYTES,
  UNDONE,
  UNFENCED_SUMS,
  UNFENCED_STORES,
  UNFENCED_BARRIER,
  LEFT,
  OFFSET,
  HALF
};

// The bytes of a tile of this rank as they lie in shared memory.
__global__ void __launch_bounds__(64)
    tile(const __grid_constant__ gpu::TensorMap map, int rank, const int* at, uint4* out, int bytes, int fault) {
  DYNAMIC_SHARED(uint4, shared);
  SHARED(gpu::Barrier, full, [1]);
  if (threadIdx.x == 0) {
    gpu::barrier_init(full, 1);
    if (fault != UNFENCED_BARRIER) gpu::fence_barrier_init();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    gpu::barrier_arrive_expect(full, fault == BYTES ? bytes + 16 : bytes);
    if (rank == 2) gpu::tile_load(shared, map, full, at[0], at[1]);
    if (rank == 3) gpu::tile_load(shared, map, full, at[0], at[1], at[2]);
    if (rank == 4) gpu::tile_load(shared, map, full, at[0], at[1], at[2], at[3]);
    if (rank == 5) gpu::tile_load(shared, map, full, at[0], at[1], at[2], at[3], at[4]);
  }
  if (fault != LEFT) gpu::barrier_wait(full, 0);
  for (int i = threadIdx.x; i < bytes / 16; i += 64) out[i] = shared[i];
}

// Pixels of an image: at = {c, w, h, n, right, down}.
__global__ void __launch_bounds__(64)
    pixels(const __grid_constant__ gpu::TensorMap map, const int* at, uint4* out, int bytes, int) {
  DYNAMIC_SHARED(uint4, shared);
  SHARED(gpu::Barrier, full, [1]);
  if (threadIdx.x == 0) {
    gpu::barrier_init(full, 1);
    gpu::fence_barrier_init();
    gpu::barrier_arrive_expect(full, bytes);
    gpu::im2col_load(shared, map, full, at[0], at[1], at[2], at[3], at[4], at[5]);
  }
  __syncthreads();
  gpu::barrier_wait(full, 0);
  for (int i = threadIdx.x; i < bytes / 16; i += 64) out[i] = shared[i];
}

// Numbers to a tile in shared memory, and from there to the tensor.
__global__ void __launch_bounds__(64)
    stored(const __grid_constant__ gpu::TensorMap map, const uint4* in, int bytes, int c0, int c1, int fault) {
  DYNAMIC_SHARED(uint4, shared);
  for (int i = threadIdx.x; i < bytes / 16; i += 64) shared[i] = in[i];
  if (fault != UNFENCED_STORES) gpu::fence_async();
  __syncthreads();
  if (threadIdx.x == 0) {
    gpu::tile_store(map, shared, c0, c1);
    gpu::bulk_commit();
    if (fault != REFILL && fault != LEFT) gpu::bulk_wait_read<0>();
  }
  __syncthreads();
  for (int i = threadIdx.x; i < bytes / 16; i += 64) shared[i] = make_uint4(1, 2, 3, 4);
  if (threadIdx.x == 0 && fault != LEFT) gpu::bulk_wait<0>();
}

// A warp loads rows of 32 numbers in two stages, two warps sum them up.
__global__ void __launch_bounds__(96)
    pipeline(const __grid_constant__ gpu::TensorMap map, int* out, int steps, int fault) {
  SHARED(int, stages, [2][32]);
  SHARED(gpu::Barrier, full, [2]);
  SHARED(gpu::Barrier, free, [2]);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < 2; ++stage) {
      gpu::barrier_init(&full[stage], 1);
      gpu::barrier_init(&free[stage], 2);
    }
    gpu::fence_barrier_init();
  }
  __syncthreads();
  if (threadIdx.x / 32 == 2) {
    if (threadIdx.x % 32) return;
    for (int step = 0; step < steps; ++step) {
      const int stage = step % 2, phase = step / 2 % 2;
      if (fault != REFILL) gpu::barrier_wait(&free[stage], phase ^ 1);
      gpu::barrier_arrive_expect(&full[stage], fault == BYTES ? 64 : 128);
      gpu::tile_load(stages[stage], map, &full[stage], 0, step);
    }
    return;
  }
  int sum = 0;
  for (int step = 0; step < steps; ++step) {
    const int stage = step % 2, phase = step / 2 % 2;
    gpu::barrier_wait(&full[stage], fault == PARITY ? phase ^ 1 : phase);
    sum += stages[stage][threadIdx.x % 32] * (step + 1);
    __syncwarp();
    if (threadIdx.x % 32 == 0) gpu::barrier_arrive(&free[stage]);
  }
  out[threadIdx.x] = sum;
}

// out[64, N] = a[64, K] * b[N, K], 64 bytes of K, loaded as tiles of SPAN bytes of it (16: no swizzle).
template <class A, class Sum, int N, int SPAN>
__global__ void __launch_bounds__(128)
    product(const __grid_constant__ gpu::TensorMap a, const __grid_constant__ gpu::TensorMap b, Sum* out, int fault) {
  DYNAMIC_SHARED(unsigned char, shared);
  SHARED(gpu::Barrier, full, [1]);
  // 64 bytes of K, or a whole row of 128 of which the products take the first half.
  constexpr int TILES = SPAN < 64 ? 64 / SPAN : 1, ELEMENTS = SPAN / sizeof(A);
  unsigned char* tile_b = shared + TILES * 64 * SPAN;
  if (threadIdx.x == 0) {
    gpu::barrier_init(full, 1);
    gpu::fence_barrier_init();
    gpu::barrier_arrive_expect(full, TILES * (64 + N) * SPAN);
    for (int i = 0; i < TILES; ++i) {
      gpu::tile_load(shared + i * 64 * SPAN, a, full, i * ELEMENTS, 0);
      gpu::tile_load(tile_b + i * N * SPAN, b, full, i * ELEMENTS, 0);
    }
  }
  __syncthreads();
  gpu::barrier_wait(full, 0);
  Sum sums[N / 2];
  for (int i = 0; i < N / 2; ++i) sums[i] = 77;
  if (fault != UNFENCED_SUMS) gpu::wgmma_fence();
  if (fault == HALF && threadIdx.x / 32 == 3) return;
  for (int i = 0; i < 2; ++i) {
    unsigned long long at_a, at_b;
    if constexpr (SPAN == 16) {
      at_a = gpu::matrix_descriptor(shared + i * 2 * 64 * 16, 64 * 16, 128);
      at_b = gpu::matrix_descriptor(tile_b + i * 2 * N * 16, N * 16, 128);
    } else if constexpr (SPAN == 32) {
      at_a = gpu::matrix_descriptor<32>(shared + i * 64 * 32, 256);
      at_b = gpu::matrix_descriptor<32>(tile_b + i * N * 32, 256);
    } else {
      at_a = gpu::matrix_descriptor<SPAN>(shared, 8 * SPAN) + 2 * i;
      at_b = gpu::matrix_descriptor<SPAN>(tile_b, 8 * SPAN) + (fault == OFFSET ? 8 * i : 2 * i);
    }
    gpu::wgmma<A, N>(sums, at_a, at_b, i > 0);
  }
  gpu::wgmma_commit();
  if (fault != LEFT && fault != UNDONE) gpu::wgmma_wait<0>();
  for (int i = 0; i < N / 2; ++i) {
    const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + i / 2 % 2 * 8;
    out[row * N + i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2] = sums[i];
  }
  if (fault == UNDONE) gpu::wgmma_wait<0>();
}

// A product of what ordinary stores wrote: rows of 32 bytes of ones.
__global__ void __launch_bounds__(128) stored_product(int* out, int fault) {
  DYNAMIC_SHARED(unsigned, ones);
  for (int i = 0; i < 8; ++i) ones[8 * threadIdx.x + i] = 0x01010101;
  if (fault != UNFENCED_STORES) gpu::fence_async();
  __syncthreads();
  int sums[32];
  gpu::wgmma_fence();
  const unsigned long long both = gpu::matrix_descriptor<32>(ones, 256);
  gpu::wgmma<signed char, 64>(sums, both, both, false);
  gpu::wgmma_commit();
  gpu::wgmma_wait<0>();
  out[threadIdx.x] = sums[threadIdx.x % 32];
}
