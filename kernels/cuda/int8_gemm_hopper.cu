// INT8 matrix product on sm_90a: TMA and wgmma, a persistent grid, the epilogue of the other INT8 GEMM.
//
// Idea: mainloop_hopper.cuh, with its numbers. Factors lie as int8_gemm.cu wants them, and give the same bits: sums are
// exact. Blocks take tiles in grouped order: what runs at a time shares rows of a and columns of b in L2.
//
// Source: CUTLASS 3 for the pipeline. Not yet run on hardware.
#include "epilogue.cuh"
#include "mainloop_hopper.cuh"
#include "order.cuh"

/// out[M, N] of a[M, K] and packed b[N, K] as tensor maps, tiles of 128 bytes by BM and BN rows.
template <class A, int BM, int BN, int STAGES>
__global__ void __launch_bounds__(384, 1)
    int8_gemm_hopper(const __grid_constant__ gpu::TensorMap a, const __grid_constant__ gpu::TensorMap b,
                     void* __restrict__ out, const float* __restrict__ scale_a, int scale_a_step,
                     const float* __restrict__ scale_b, int scale_b_step, const int* __restrict__ zero_a,
                     int zero_a_step, const int* __restrict__ sums_b, const void* __restrict__ bias, int type,
                     int activation, int M, int N, int K, int group) {
  using Tile = gpu::Pipeline<A, BM, BN, STAGES>;
  DYNAMIC_SHARED(unsigned char, shared);
  const int tiles_m = (M + BM - 1) / BM, tiles_n = (N + BN - 1) / BN;
  const int tiles = tiles_m * tiles_n, steps = (K + Tile::BK - 1) / Tile::BK;
  Tile pipeline(shared);
  if (pipeline.loads()) {
    gpu::registers_decrease<Tile::LOADER_REGISTERS>();
    if (pipeline.leads()) {
      gpu::prefetch(a);
      gpu::prefetch(b);
      for (int i = blockIdx.x; i < tiles; i += gridDim.x) {
        const int2 tile = gpu::grouped(i, tiles_m, tiles_n, group);
        pipeline.load(steps, [&](unsigned char* to_a, unsigned char* to_b, gpu::Barrier* full, int step) {
          gpu::tile_load(to_a, a, full, step * Tile::BK, tile.x * BM);
          gpu::tile_load(to_b, b, full, step * Tile::BK, tile.y * BN);
        });
      }
    }
  } else {
    gpu::registers_increase<Tile::REGISTERS>();
    gpu::Epilogue<int> epilogue{out, type, M, N, N, bias};
    epilogue.activation = activation;
    epilogue.sums_b = zero_a ? sums_b : nullptr;
    epilogue.zero_a = {zero_a, zero_a_step};
    epilogue.scale_a = {scale_a, scale_a_step};
    epilogue.scale_b = {scale_b, scale_b_step};
    typename Tile::Sums sums;
    for (int i = blockIdx.x; i < tiles; i += gridDim.x) {
      pipeline.multiply(sums, steps);
      const int2 tile = gpu::grouped(i, tiles_m, tiles_n, group);
      pipeline.finish(sums, tile.x * BM, tile.y * BN, epilogue);
    }
  }
}
