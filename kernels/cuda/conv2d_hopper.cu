// 2-D convolution, forward, on sm_90a: the implicit product of conv2d.cu by TMA and wgmma.
//
// Idea: mainloop_hopper.cuh, with its numbers. K is walked tap by tap, in steps of 128 bytes of channels. The tensor
// copies of im2col mode do all of the unfolding: a step's rows are the pixels that one tap meets, for windows that
// follow each other across rows and images; they are zeros outside. The weight is a tensor [O, taps, C], so that
// channels that a tap's last step has too many are zeros in both factors.
//
// For images whose zero is the number 0 (no zero point, or no padding), one group, and channels of 16 bytes: others
// take conv2d.cu. Not yet run on hardware.
//
// Source: Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014 (implicit product); CUTLASS 3.
#include "conv2d_parts.cuh"
#include "mainloop_hopper.cuh"
#include "order.cuh"

/// image, an im2col map of [N, H, W, C] for BM pixels; weight, a map of [O, taps, C] for BN filters of a tap; 128 bytes
/// of channels. output, residual [N, OH, OW, O].
template <class T, int BM, int BN, int STAGES>
__global__ void __launch_bounds__(384, 1)
    conv2d_hopper(const __grid_constant__ gpu::TensorMap image, const __grid_constant__ gpu::TensorMap weight,
                  void* __restrict__ output, int type, const void* bias, int bias_type, const void* residual,
                  int activation, const float* scale_weight, int scale_step, float scale_image, float scale_residual,
                  float inverse_scale, int zero_image, int zero_residual, int zero_output, const int* sums_b,
                  int images, int out_height, int out_width, int channels, int filters, int kernel_h, int kernel_w,
                  int stride_h, int stride_w, int padding_h, int padding_w, int dilation_h, int dilation_w, int group) {
  using Tile = gpu::Pipeline<T, BM, BN, STAGES>;
  using Sum = typename Tile::Sum;
  DYNAMIC_SHARED(unsigned char, shared);
  const int rows = images * out_height * out_width;
  const int tiles_m = (rows + BM - 1) / BM, tiles_n = (filters + BN - 1) / BN, tiles = tiles_m * tiles_n;
  const int blocks = (channels + Tile::BK - 1) / Tile::BK, steps = kernel_h * kernel_w * blocks;
  Tile pipeline(shared);
  if (pipeline.loads()) {
    gpu::registers_decrease<Tile::LOADER_REGISTERS>();
    if (pipeline.leads()) {
      gpu::prefetch(image);
      gpu::prefetch(weight);
      for (int i = blockIdx.x; i < tiles; i += gridDim.x) {
        const int2 tile = gpu::grouped(i, tiles_m, tiles_n, group);
        const int first = tile.x * BM, line = first / out_width;  // the tile's first window
        const int x = first % out_width * stride_w - padding_w, y = line % out_height * stride_h - padding_h;
        const int which = line / out_height;
        pipeline.load(steps, [&](unsigned char* to_a, unsigned char* to_b, gpu::Barrier* full, int step) {
          const int tap = step / blocks, channel = step % blocks * Tile::BK;
          const int right = tap % kernel_w * dilation_w, down = tap / kernel_w * dilation_h;
          gpu::im2col_load(to_a, image, full, channel, x, y, which, right, down);
          gpu::tile_load(to_b, weight, full, channel, tap, tile.y * BN);
        });
      }
    }
  } else {
    gpu::registers_increase<Tile::REGISTERS>();
    gpu::Epilogue<Sum> end{output, type, rows, filters, filters, bias, bias_type, residual};
    if (sizeof(T) == 2) end.type = end.bias_type = gpu::type_of<T>;  // which the compiler then knows
    end.activation = activation;
    end.sums_b = sums_b;
    end.scale_b = {scale_weight, scale_step};
    end.zero = zero_image;
    end.scale = scale_image;
    end.inverse_scale = inverse_scale;
    end.zero_out = zero_output;
    end.scale_residual = scale_residual;
    end.zero_residual = zero_residual;
    typename Tile::Sums sums;
    for (int i = blockIdx.x; i < tiles; i += gridDim.x) {
      const int2 tile = gpu::grouped(i, tiles_m, tiles_n, group);
      pipeline.multiply(sums, steps);
      pipeline.finish(sums, tile.x * BM, tile.y * BN, end);
    }
  }
}
