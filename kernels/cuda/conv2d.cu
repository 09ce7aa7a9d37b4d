// 2-D convolution, forward: an implicit matrix product with its epilogue in registers.
//
// Idea. A row is a pixel of the output, a column a filter, and the sum runs over taps and, within a tap, over the
// channels of a group; the unfolded image is never written (conv2d_loaders.cuh). One kernel for every window, stride,
// padding, dilation and group: K is walked across the border of taps, so few channels waste nothing. The main loop is
// mainloop.cuh, the epilogue epilogue.cuh. mma.sync takes unsigned 8-bit images as they are; their zero point comes off
// by the sums of the filters' weights, and where a window leaves the image it reads the zero point.
//
// Where a layer has fewer tiles than the GPU has processors (batch 1, 7x7 maps) the sum is cut into gridDim.y parts,
// which conv2d_reduce adds in their order: the same bits in every run.
//
// Blocking: warps of 64 x 64, copies of 16 bytes (8 or 4 where channels are few; those that divide into neither are
// padded by conv2d_pad). In a step of 32 channels a warp issues 224 instructions on sm_80, 64 of them HMMA and 8
// LDGSTS.
//
// Predicted (cvperf/backends/cuda/conv2d_plan.py), batch 32, float16: 3x3 256-256 14x14 44 us on an A100 (67 % of the
// roofline) and 28 us on an H100 (33 %: mma.sync has 62 % of its rate); 1x1 64-256 56x56 43 us (93 %) and 25 us (85 %).
// The convolutions of ResNet-50 but the first: 1.80 and 1.15 ms, int8 1.07 and 0.75. Not yet run on hardware.
//
// Source: Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014 (implicit product).
#include "conv2d_loaders.cuh"
#include "conv2d_parts.cuh"
#include "order.cuh"

/// Grid: tiles of pixels by filters in grouped order, parts of the sum, groups.
///
/// image [N, H, W, C] of T; weight rows of [kh, kw, C / groups], `weight_pitch` numbers apart; output, residual
/// [N, OH, OW, O]; with more than one part, output is [parts, N, OH, OW, O] of sums.
template <class T, class W, int VECTOR, int BM, int BN, int BK, int WARPS_M, int WARPS, int STAGES>
__global__ void __launch_bounds__(32 * WARPS, 1)
    conv2d(const T* __restrict__ image, const W* __restrict__ weight, void* __restrict__ output, int type,
           const void* bias, int bias_type, const void* residual, int activation, const float* scale_weight,
           int scale_step, float scale_image, float scale_residual, float inverse_scale, int zero_image,
           int zero_residual, int zero_output, const int* sums_b, int fill, int images, int height, int width,
           int out_height, int out_width, int channels, int filters, int weight_pitch, int kernel_h, int kernel_w,
           int stride_h, int stride_w, int padding_h, int padding_w, int dilation_h, int dilation_w, int group_m) {
  using namespace gpu;
  using Tile = Product<T, W, BM, BN, BK, WARPS_M, WARPS / WARPS_M, STAGES>;
  DYNAMIC_SHARED(unsigned char, shared);
  const int rows = images * out_height * out_width, K = kernel_h * kernel_w * channels, groups = gridDim.z;
  const int group = blockIdx.z;
  const int2 tile = grouped(blockIdx.x, (rows + BM - 1) / BM, (filters + BN - 1) / BN, group_m);
  const int m0 = tile.x * BM, n0 = tile.y * BN;
  const int2 part = part_of((K + BK - 1) / BK);

  const Gather gather{rows,  out_height,        out_width, stride_h, stride_w,   -padding_h, -padding_w, height,
                      width, channels * groups, kernel_h,  kernel_w, dilation_h, dilation_w, channels,   channels};
  Windows<T, VECTOR, BM, BK, Tile::THREADS> load_a(image + group * channels, gather, m0, part.x, fill);
  Filters<W, VECTOR, BN, BK, Tile::THREADS> load_b(weight + static_cast<long long>(group) * filters * weight_pitch,
                                                   weight_pitch, n0, filters, K);
  Tile product;
  product.run(shared, load_a, load_b, part.x, part.y);

  using Sum = typename Tile::Sum;
  const int column = group * filters;
  Epilogue<Sum> end{output, type, rows, filters, static_cast<long long>(filters) * groups};
  if (gridDim.y > 1) {
    end.type = type_of<Sum>;
    end.out = moved(output, end.type, static_cast<long long>(blockIdx.y) * rows * end.stride + column);
  } else {
    if (sizeof(T) == 2)
      end.type = end.bias_type = type_of<T>;  // which the compiler then knows
    else
      end.bias_type = bias_type;
    end.out = moved(output, end.type, column);
    end.bias = moved(bias, end.bias_type, column);
    end.residual = moved(residual, end.type, column);
    end.activation = activation;
    end.sums_b = sums_b ? sums_b + column : nullptr;
    end.scale_b = {scale_weight ? scale_weight + column * scale_step : nullptr, scale_step};
    end.zero = zero_image;
    end.scale = scale_image;
    end.inverse_scale = inverse_scale;
    end.zero_out = zero_output;
    end.scale_residual = scale_residual;
    end.zero_residual = zero_residual;
  }
  product.finish(shared, m0, n0, end);
}
