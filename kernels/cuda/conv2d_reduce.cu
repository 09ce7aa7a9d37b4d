// The parts of a convolution's sum, added in their order, and the epilogue.
//
// Memory alone: parts are read once, 16 bytes at a time, and the output is written once, 4 or 8 columns a thread.
#include "epilogue.cuh"

template <int V, class Sum>
__device__ __forceinline__ void reduce_columns(const Sum* parts, int count, int threads_across,
                                               const gpu::Epilogue<Sum>& epilogue) {
  const long long thread = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int row = static_cast<int>(thread / threads_across), column = static_cast<int>(thread % threads_across) * V;
  if (row >= epilogue.M) return;
  const long long size = static_cast<long long>(epilogue.M) * epilogue.N;
  const Sum* at = parts + static_cast<long long>(row) * epilogue.N + column;
  Sum sums[V] = {};
  for (int part = 0; part < count; ++part) {
    Sum more[V];
    gpu::load<V>(more, at + part * size, epilogue.N - column);
#pragma unroll
    for (int v = 0; v < V; ++v) sums[v] += more[v];
  }
  epilogue.template store<V>(row, column, epilogue.template columns<V>(column), sums);
}

/// output[rows, columns] of parts[count, rows, columns]. Threads: `across` (columns over 4, or 8 with 8- or 16-bit
/// output) for each row.
template <class Sum>
__global__ void __launch_bounds__(128)
    conv2d_reduce(const Sum* __restrict__ parts, int count, int rows, int columns, int across,
                  void* __restrict__ output, int type, const void* bias, int bias_type, const void* residual,
                  int activation, const float* scale_weight, int scale_step, float scale_image, float scale_residual,
                  float inverse_scale, int zero_image, int zero_residual, int zero_output, const int* sums_b) {
  gpu::Epilogue<Sum> end{output, type, rows, columns, columns, bias, bias_type, residual, activation, sums_b};
  end.scale_b = {scale_weight, scale_step};
  end.zero = zero_image;
  end.scale = scale_image;
  end.inverse_scale = inverse_scale;
  end.zero_out = zero_output;
  end.scale_residual = scale_residual;
  end.zero_residual = zero_residual;
  if (end.narrow())
    reduce_columns<4>(parts, count, across, end);
  else
    reduce_columns<8>(parts, count, across, end);
}
