// INT8 matrix product: exact int32 sums on tensor cores, finished in the same pass.
//
// Idea. b is packed once as rows of its columns (K contiguous for both factors, as mma.sync wants it), rows padded with
// zeros to 16 bytes so that every copy is of 16 bytes; the main loop is mainloop.cuh, the epilogue epilogue.cuh.
// mma.sync takes unsigned a as it is; a zero point comes off in the epilogue through the column sums that were packed
// with b.
//
// - int8_gemm: a block a tile, in grouped order for the L2 cache. With gridDim.y > 1 the sum over K is split: each part
//   is written as int32, and
// - int8_gemm_finish adds the parts in order and finishes them. Few rows only stream b, and need all processors for it.
//
// Blocking. Warps of 64 x 64: a step of 32 bytes of K reads 4 KiB of shared memory for 131,072 multiply-adds, half of
// what an A100 reads in the time that takes it (2,048 a clock, 128 bytes a clock). Tiles of 128 x 128 run two on a
// processor, each hiding the other's beginning and end; tiles of 128 x 256 draw a quarter less from L2.
//
// Not yet run on hardware.
//
// Source: Jacob et al., CVPR 2018, for the zero-point algebra; CUTLASS for the multi-stage loop and the split of K.
#include "epilogue.cuh"
#include "mainloop.cuh"
#include "order.cuh"

/// The epilogue that the kernels' arguments stand for.
__device__ __forceinline__ gpu::Epilogue<int> epilogue_of(void* out, const float* scale_a, int scale_a_step,
                                                          const float* scale_b, int scale_b_step, const int* zero_a,
                                                          int zero_a_step, const int* sums_b, const void* bias,
                                                          int type, int activation, int M, int N) {
  gpu::Epilogue<int> epilogue{out, type, M, N, N, bias};
  epilogue.activation = activation;
  epilogue.sums_b = zero_a ? sums_b : nullptr;
  epilogue.zero_a = {zero_a, zero_a_step};
  epilogue.scale_a = {scale_a, scale_a_step};
  epilogue.scale_b = {scale_b, scale_b_step};
  return epilogue;
}

/// out[M, N] of a[M, K], its rows stride_a bytes apart, and packed b[N, K]. K is a multiple of 16.
///
/// Grid: tiles, parts that the sum is split into. With more than one part, out is int32 [parts, M, N], and the rest of
/// the epilogue waits for int8_gemm_finish.
template <class A, int BM, int BN, int BK, int WARPS_M, int WARPS, int STAGES>
__global__ void __launch_bounds__(32 * WARPS, 1)
    int8_gemm(const A* __restrict__ a, const signed char* __restrict__ b, void* __restrict__ out,
              const float* __restrict__ scale_a, int scale_a_step, const float* __restrict__ scale_b, int scale_b_step,
              const int* __restrict__ zero_a, int zero_a_step, const int* __restrict__ sums_b,
              const void* __restrict__ bias, int type, int activation, int M, int N, int K, long long stride_a,
              int steps, int group) {
  using Tile = gpu::Product<A, signed char, BM, BN, BK, WARPS_M, WARPS / WARPS_M, STAGES>;
  DYNAMIC_SHARED(unsigned char, shared);
  const int tiles_m = (M + BM - 1) / BM, tiles_n = (N + BN - 1) / BN, all_steps = (K + BK - 1) / BK;
  const int2 tile = gpu::grouped(blockIdx.x, tiles_m, tiles_n, group);
  const int m0 = tile.x * BM, n0 = tile.y * BN, first = blockIdx.y * steps;
  gpu::Rows<A, BM, BK, Tile::THREADS> load_a(a, stride_a, m0, M, K);
  gpu::Rows<signed char, BN, BK, Tile::THREADS> load_b(b, K, n0, N, K);
  Tile product;
  product.run(shared, load_a, load_b, first, min(first + steps, all_steps));

  if (gridDim.y == 1) {
    product.finish(shared, m0, n0,
                   epilogue_of(out, scale_a, scale_a_step, scale_b, scale_b_step, zero_a, zero_a_step, sums_b, bias,
                               type, activation, M, N));
  } else {
    int* part = static_cast<int*>(out) + static_cast<long long>(blockIdx.y) * M * N;
    product.finish(shared, m0, n0, gpu::Epilogue<int>{part, gpu::INT32, M, N, N});
  }
}

template <int V>
__device__ __forceinline__ void finish_columns(const int* parts, int count, int row, int column,
                                               const gpu::Epilogue<int>& epilogue) {
  if (column >= epilogue.N) return;
  const long long size = static_cast<long long>(epilogue.M) * epilogue.N;
  const int* at = parts + static_cast<long long>(row) * epilogue.N + column;
  int sums[V] = {};
  for (int part = 0; part < count; ++part) {
    int more[V];
    gpu::load<V>(more, at + part * size, epilogue.N - column);
#pragma unroll
    for (int v = 0; v < V; ++v) sums[v] += more[v];
  }
  epilogue.store<V>(row, column, epilogue.columns<V>(column), sums);
}

/// out[M, N] of parts[S, M, N], added in order of S. Grid: rows, threads of 4 columns (8 with 8- or 16-bit out).
__global__ void __launch_bounds__(128)
    int8_gemm_finish(const int* __restrict__ parts, int count, void* __restrict__ out,
                     const float* __restrict__ scale_a, int scale_a_step, const float* __restrict__ scale_b,
                     int scale_b_step, const int* __restrict__ zero_a, int zero_a_step, const int* __restrict__ sums_b,
                     const void* __restrict__ bias, int type, int activation, int M, int N) {
  const auto epilogue = epilogue_of(out, scale_a, scale_a_step, scale_b, scale_b_step, zero_a, zero_a_step, sums_b,
                                    bias, type, activation, M, N);
  const int row = blockIdx.x, thread = blockIdx.y * blockDim.x + threadIdx.x;
  if (epilogue.narrow())
    finish_columns<4>(parts, count, row, thread * 4, epilogue);
  else
    finish_columns<8>(parts, count, row, thread * 8, epilogue);
}
