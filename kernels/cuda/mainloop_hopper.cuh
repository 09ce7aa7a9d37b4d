// The main loop of a matrix product on sm_90a: sums[BM, BN] over K of a[BM, K] times b[BN, K], tile after tile.
//
// One thread loads (TMA), two warpgroups multiply (wgmma), and STAGES stages of shared memory lie between them. A stage
// is 128 bytes of K of both factors, rows of 128 bytes with their swizzle. Two barriers a stage: `full` ends a phase
// when all its bytes have landed, `free` when every warp has multiplied it. The loader runs ahead into the next tile
// while this one is finished, so the grid is one block a processor and each takes tile after tile.
//
//   using Tile = gpu::Pipeline<signed char, 256, 192, 3>;   // 256 x 192 of K in steps of 128 bytes, 3 stages
//   __global__ void __launch_bounds__(384, 1) kernel(const __grid_constant__ gpu::TensorMap a, ...) {
//     DYNAMIC_SHARED(unsigned char, shared);                // Tile::SHARED_BYTES of it
//     Tile pipeline(shared);
//     if (pipeline.loads()) {
//       gpu::registers_decrease<Tile::LOADER_REGISTERS>();
//       if (pipeline.leads())
//         for (each tile) pipeline.load(steps, [&](unsigned char* to_a, unsigned char* to_b, gpu::Barrier* full,
//                                                  int step) { gpu::tile_load(...); gpu::tile_load(...); });
//     } else {
//       gpu::registers_increase<Tile::REGISTERS>();
//       typename Tile::Sums sums;
//       for (each tile) {
//         pipeline.multiply(sums, steps);
//         pipeline.finish(sums, m0, n0, epilogue);          // kernels/cuda/epilogue.cuh
//       }
//     }
//   }
//
// Numbers, H100, 8 bits (with 16 bits bytes double and the rate halves: the same). The tensor cores take 4,096
// multiply-adds a clock, a step of a tile of
//   256 x 192   1,536 clocks. wgmma reads 128 KiB of shared memory (b once for each 64 rows of a) and 56 KiB land: 123
//               bytes a clock of the 128 that there are. 37 bytes a clock come from L2: at 7 TB/s of it 1.54 Pop/s.
//   128 x 256   1,024 clocks. It reads 80 KiB and 48 land: 128 bytes a clock. 48 of them from L2: 1.19 Pop/s.
// So large products take 256 x 192, whose 192 sums a thread fit 240 registers without spills; their epilogue is written
// for that. cvperf/backends/cuda/hopper.py has the model. Blocks of a cluster that share what they load (multicast)
// would draw less from L2 and are the next thing to try.
//
// Source: the warp-specialised kernels of CUTLASS 3 ("cooperative"). Not yet run on hardware.
#pragma once
#include "hopper.cuh"
#include "mainloop.cuh"

namespace gpu {

template <class A, int BM_, int BN_, int STAGES_>
struct Pipeline {
  static constexpr int BM = BM_, BN = BN_, STAGES = STAGES_;
  static constexpr int GROUPS = 2, BLOCKS = BM / 64 / GROUPS;              // of 64 rows, each a product of its own
  static constexpr int ROW = 128, BK = ROW / static_cast<int>(sizeof(A));  // a step of K, in bytes and elements
  static constexpr int A_BYTES = BM * ROW, B_BYTES = BN * ROW, STAGE_BYTES = A_BYTES + B_BYTES;
  static constexpr int THREADS = 128 * (GROUPS + 1);
  static constexpr int LOADER_REGISTERS = 24, REGISTERS = 240;  // 64,512 of 65,536
  // A warp finishes 16 x 64 of its sums at a time, through a slab of its own.
  static constexpr int ACROSS = 64, PASSES = BN / ACROSS, SLAB_BYTES = 16 * ACROSS * 4;
  static constexpr int SLABS = STAGES * STAGE_BYTES, BARRIERS = SLABS + 4 * GROUPS * SLAB_BYTES;
  static constexpr int SHARED_BYTES = BARRIERS + 2 * STAGES * static_cast<int>(sizeof(Barrier));

  static_assert(BM % (64 * GROUPS) == 0 && BLOCKS * BN <= 384, "a thread has BLOCKS x BN / 2 sums");
  static_assert(BN % ACROSS == 0 && BN <= 256 && SHARED_BYTES <= 227 * 1024, "what a processor has");

  using Sum = typename SumOf<A>::type;
  using Sums = Sum[BLOCKS][BN / 2];

  unsigned char* shared;
  int stage = 0;       // that is loaded or multiplied next
  unsigned phase = 0;  // parity of its `full`

  /// All threads of the block.
  __device__ __forceinline__ explicit Pipeline(unsigned char* memory) : shared(memory) {
    if (threadIdx.x == 0) {
#pragma unroll
      for (int i = 0; i < STAGES; ++i) {
        barrier_init(full(i), 1);
        barrier_init(free(i), 4 * GROUPS);
      }
      fence_barrier_init();
    }
    __syncthreads();
  }

  /// Whether this warpgroup is the one that loads; whether this thread of it does.
  __device__ __forceinline__ static bool loads() { return threadIdx.x / 128 == GROUPS; }
  __device__ __forceinline__ static bool leads() { return threadIdx.x % 128 == 0; }

  /// One thread: have `load(to_a, to_b, full, step)` start copies of all bytes of each step.
  template <class Load>
  __device__ __forceinline__ void load(int steps, const Load& load) {
    for (int step = 0; step < steps; ++step) {
      barrier_wait(free(stage), phase ^ 1);
      barrier_arrive_expect(full(stage), STAGE_BYTES);
      unsigned char* const to = shared + stage * STAGE_BYTES;
      load(to, to + A_BYTES, full(stage), step);
      advance();
    }
  }

  /// A warpgroup that multiplies: its half of the tile's rows. While a step is multiplied, the next is enqueued.
  __device__ __forceinline__ void multiply(Sums& sums, int steps) {
    const unsigned char* const from = shared + threadIdx.x / 128 * BLOCKS * 64 * ROW;
    int before = 0;
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      const unsigned long long a = matrix_descriptor<ROW>(from + stage * STAGE_BYTES, 8 * ROW);
      const unsigned long long b = matrix_descriptor<ROW>(shared + stage * STAGE_BYTES + A_BYTES, 8 * ROW);
      barrier_wait(full(stage), phase);
      keep(sums);
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < ROW / 32; ++k)
#pragma unroll
        for (int block = 0; block < BLOCKS; ++block)
          wgmma<A, BN>(sums[block], a + block * (64 * ROW / 16) + 2 * k, b + 2 * k, step > 0 || k > 0);
      wgmma_commit();
      wgmma_wait<1>();  // the step before this one
      if (step > 0) arrive(before);
      before = stage;
      advance();
    }
    wgmma_wait<0>();
    keep(sums);
    arrive(before);
  }

  /// Hand the sums of the tile at (m0, n0) to an epilogue, each thread four neighbours in a row at a time: see
  /// Product::finish in mainloop.cuh, but that outputs of all types come in fours (eight would want registers that 192
  /// sums leave no room for). A warp then writes two rows of 64 columns.
  template <class Epilogue>
  __device__ __forceinline__ void finish(const Sums& sums, int m0, int n0, const Epilogue& epilogue) const {
    const int thread = computed_here(threadIdx.x);  // what follows from it would else live through the main loop
    const int warp = thread / 32, lane = thread % 32, row = lane / 4, column = lane % 16 * 4;
    Sum* const slab = reinterpret_cast<Sum*>(shared + SLABS + warp * SLAB_BYTES);
    Sum* const to = slab + row * ACROSS + lane % 4 * 2;
#pragma unroll 1
    for (int pass = 0; pass < BLOCKS * PASSES; ++pass) {
      // One of these, chosen by a branch: registers have no index. Eights of columns change places by the row, so that
      // neither writing nor reading has bank conflicts.
#pragma unroll
      for (int p = 0; p < BLOCKS * PASSES; ++p) {
        if (p != pass) continue;
#pragma unroll
        for (int j = 0; j < ACROSS / 8; ++j)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const Sum* two = &sums[p / PASSES][p % PASSES * ACROSS / 2 + j * 4 + half * 2];
            put(to + half * 8 * ACROSS + j / 4 * 32 + (j % 4 ^ row % 4) * 8, two[0], two[1]);
          }
      }
      __syncwarp();
      const int first = n0 + pass % PASSES * ACROSS + column;
      const int top = m0 + (warp / 4 * BLOCKS + pass / PASSES) * 64 + warp % 4 * 16;
      const auto kept = epilogue.template columns<4>(first);
#pragma unroll 1
      for (int r = lane / 16; r < 16; r += 2) {
        Sum values[4];
        take(values, slab + r * ACROSS + (column ^ r % 4 * 8));
        epilogue.template store<4, true>(top + r, first, kept, values);
      }
      __syncwarp();
    }
  }

 private:
  __device__ __forceinline__ Barrier* full(int i) const { return reinterpret_cast<Barrier*>(shared + BARRIERS) + i; }
  __device__ __forceinline__ Barrier* free(int i) const { return full(STAGES + i); }

  __device__ __forceinline__ static void keep(Sums& sums) {
#pragma unroll
    for (int block = 0; block < BLOCKS; ++block) keep_in_order(sums[block]);
  }

  __device__ __forceinline__ void arrive(int i) const {
    if (threadIdx.x % 32 == 0) barrier_arrive(free(i));
  }

  __device__ __forceinline__ void advance() {
    if (++stage == STAGES) {
      stage = 0;
      phase ^= 1;
    }
  }

  __device__ __forceinline__ static void put(int* to, int x, int y) { *reinterpret_cast<int2*>(to) = make_int2(x, y); }
  __device__ __forceinline__ static void put(float* to, float x, float y) {
    *reinterpret_cast<float2*>(to) = make_float2(x, y);
  }
  __device__ __forceinline__ static void take(int* to, const int* from) {
    const int4 x = *reinterpret_cast<const int4*>(from);
    to[0] = x.x, to[1] = x.y, to[2] = x.z, to[3] = x.w;
  }
  __device__ __forceinline__ static void take(float* to, const float* from) {
    const float4 x = *reinterpret_cast<const float4*>(from);
    to[0] = x.x, to[1] = x.y, to[2] = x.z, to[3] = x.w;
  }
};

}  // namespace gpu
