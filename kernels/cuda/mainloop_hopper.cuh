// The main loop of a matrix product on sm_90a: sums[BM, BN] over K of a[BM, K] times b[BN, K], tile after tile.
//
// A warp loads (TMA), GROUPS warpgroups of 64 rows each multiply (wgmma), and STAGES stages of shared memory lie
// between them. A stage is 128 bytes of K of both factors, rows of 128 bytes with their swizzle. Two barriers a stage:
// `full` ends a phase when all its bytes have landed, `free` when every warp has multiplied it. The loader runs ahead
// into the next tile while this one is finished, so the grid is one block a processor and each takes tile after tile.
//
//   using Tile = gpu::Pipeline<signed char, 2, 256, 4>;   // 128 x 256 of K in steps of 128 bytes, 4 stages
//   __global__ void __launch_bounds__(Tile::THREADS, 1) kernel(const __grid_constant__ gpu::TensorMap a, ...) {
//     DYNAMIC_SHARED(unsigned char, shared);              // Tile::SHARED_BYTES of it
//     Tile pipeline(shared);
//     if (pipeline.loads()) {
//       gpu::registers_decrease<Tile::LOADER_REGISTERS>();
//       if (pipeline.leads())
//         for (each tile) pipeline.load(steps, [&](unsigned char* to_a, unsigned char* to_b, gpu::Barrier* full,
//                                                  int step) { gpu::tile_load(...); gpu::tile_load(...); });
//     } else {
//       gpu::registers_increase<Tile::REGISTERS>();
//       for (each tile) {
//         typename Tile::Sums sums;
//         pipeline.multiply(sums, steps);
//         pipeline.finish(sums, m0, n0, epilogue);        // kernels/cuda/epilogue.cuh
//       }
//     }
//   }
//
// Numbers, H100: a step of 128 x 256 x 128 (8 bits) takes the tensor cores 1,024 clocks, 4,096 multiply-adds each. In
// that time wgmma reads 80 KiB of shared memory (64 rows of a and 256 of b by each group) and 48 KiB land: 128 bytes a
// clock, which is all that shared memory gives; and the block draws 48 bytes a clock from L2, where 7 TB/s are 30 for
// each of 132 processors. Tiles of 192 x 256 draw 37 and read 80: L2 then allows 1.5 Pop/s, with 128 x 256 it is 1.2.
// With 16 bits bytes double and the rate halves: the same.
//
// Source: the warp-specialised kernels of CUTLASS 3 ("cooperative"). Not yet run on hardware.
#pragma once
#include "hopper.cuh"
#include "mainloop.cuh"

namespace gpu {

template <class A, int GROUPS_, int BN_, int STAGES_>
struct Pipeline {
  static constexpr int GROUPS = GROUPS_, BN = BN_, STAGES = STAGES_, BM = 64 * GROUPS;
  static constexpr int ROW = 128, BK = ROW / static_cast<int>(sizeof(A));  // a step of K, in bytes and elements
  static constexpr int A_BYTES = BM * ROW, B_BYTES = BN * ROW, STAGE_BYTES = A_BYTES + B_BYTES;
  static constexpr int THREADS = 128 * (GROUPS + 1);
  // 64,000 registers, all but 24 or 32 a thread of them for those that multiply.
  static constexpr int LOADER_REGISTERS = GROUPS == 2 ? 24 : 32, REGISTERS = GROUPS == 2 ? 240 : 160;
  // A warp finishes 16 x 64 of its sums at a time, through a slab of its own.
  static constexpr int ACROSS = 64, PASSES = BN / ACROSS, SLAB_BYTES = 16 * ACROSS * 4;
  static constexpr int SLABS = STAGES * STAGE_BYTES, BARRIERS = SLABS + 4 * GROUPS * SLAB_BYTES;
  static constexpr int SHARED_BYTES = BARRIERS + 2 * STAGES * static_cast<int>(sizeof(Barrier));

  static_assert(GROUPS == 2 || GROUPS == 3, "two or three warpgroups multiply");
  static_assert(BN % ACROSS == 0 && BN <= 256 && SHARED_BYTES <= 227 * 1024, "what a processor has");

  using Sum = typename SumOf<A>::type;
  using Sums = Sum[BN / 2];

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

  /// A warpgroup that multiplies: its 64 rows of the tile. While a step is multiplied, the next is enqueued behind it.
  __device__ __forceinline__ void multiply(Sums& sums, int steps) {
    const unsigned char* const from = shared + threadIdx.x / 128 * 64 * ROW;
    int before = 0;
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      const unsigned long long a = matrix_descriptor<ROW>(from + stage * STAGE_BYTES, 8 * ROW);
      const unsigned long long b = matrix_descriptor<ROW>(shared + stage * STAGE_BYTES + A_BYTES, 8 * ROW);
      barrier_wait(full(stage), phase);
      keep_in_order(sums);
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < ROW / 32; ++k) wgmma<A, BN>(sums, a + 2 * k, b + 2 * k, step > 0 || k > 0);
      wgmma_commit();
      wgmma_wait<1>();  // the step before this one
      if (step > 0) arrive(before);
      before = stage;
      advance();
    }
    wgmma_wait<0>();
    keep_in_order(sums);
    arrive(before);
  }

  /// Hand the sums of the tile at (m0, n0) to an epilogue: see Product::finish in mainloop.cuh.
  template <class Epilogue>
  __device__ __forceinline__ void finish(const Sums& sums, int m0, int n0, const Epilogue& epilogue) const {
    if (epilogue.narrow())
      finish_by<4>(sums, m0, n0, epilogue);
    else
      finish_by<8>(sums, m0, n0, epilogue);
  }

 private:
  __device__ __forceinline__ Barrier* full(int i) const { return reinterpret_cast<Barrier*>(shared + BARRIERS) + i; }
  __device__ __forceinline__ Barrier* free(int i) const { return full(STAGES + i); }

  __device__ __forceinline__ void arrive(int i) const {
    if (threadIdx.x % 32 == 0) barrier_arrive(free(i));
  }

  __device__ __forceinline__ void advance() {
    if (++stage == STAGES) {
      stage = 0;
      phase ^= 1;
    }
  }

  template <int V, class Epilogue>
  __device__ __forceinline__ void finish_by(const Sums& sums, int m0, int n0, const Epilogue& epilogue) const {
    constexpr int LANES = ACROSS / V, ROWS = 32 / LANES;  // lanes side by side; rows at a time
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    Sum* const slab = reinterpret_cast<Sum*>(shared + SLABS + warp * SLAB_BYTES);
    const int row = lane / 4, pair = lane % 4, column = lane % LANES * V;
#pragma unroll 1
    for (int pass = 0; pass < PASSES; ++pass) {
      // One of these, chosen by a branch: registers have no index.
#pragma unroll
      for (int p = 0; p < PASSES; ++p) {
        if (p != pass) continue;
#pragma unroll
        for (int j = 0; j < ACROSS / 8; ++j)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const int at = p * ACROSS / 2 + j * 4 + half * 2;
            put(slab + word(row + half * 8, j * 8 + pair * 2), sums[at], sums[at + 1]);
          }
      }
      __syncwarp();
      const int first = n0 + pass * ACROSS + column;
      const auto kept = epilogue.template columns<V>(first);
#pragma unroll 1
      for (int r = lane / LANES; r < 16; r += ROWS) {
        Sum values[V];
#pragma unroll
        for (int v = 0; v < V; v += 4) take(values + v, slab + word(r, column + v));
        epilogue.template store<V>(m0 + warp * 16 + r, first, kept, values);
      }
      __syncwarp();
    }
  }

  /// Where a column of a slab's row lies: four rows' pairs of 16 bytes change places, so that writing has no bank
  /// conflicts, and reading at most two-way.
  __device__ __forceinline__ static int word(int row, int column) { return row * ACROSS + (column ^ row % 4 * 8); }

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
