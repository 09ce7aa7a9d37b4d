// The gradients of a convolution, each an implicit matrix product on the main loop of the forward pass.
//
// Input gradient: each pixel of the image sums over the taps that reached it: a gather from the output's gradient with
// the window turned round. With a stride, pixels whose coordinates share a remainder share their taps: each such class
// is a dense product of its own (a 3x3 kernel at stride 2 has classes of 1, 2, 2 and 4 taps, 9 in all), none of it
// multiplies zeros. K runs over taps and filters, in which the weight's rows are columns of the product: ldmatrix turns
// them.
//
// Weight gradient: rows are filters, columns the channels of every tap, and the sum runs over all pixels: 100,000 of
// them against a result of 64 x 576. K is memory's slow direction in both factors; ldmatrix turns both. The sum is cut
// into parts, which conv2d_reduce adds in their order. Both are deterministic.
//
// Source: Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014; the classes are the sub-kernels of
// Dumoulin and Visin, "A guide to convolution arithmetic", 2016.
//
// Predicted, batch 32, float16, 3x3 256-256 14x14: input gradient 44 us on an A100 and 29 us on an H100, weight
// gradient 49 and 33 us with its sum of parts. Not yet run on hardware.
#include "conv2d_loaders.cuh"
#include "conv2d_parts.cuh"
#include "order.cuh"

namespace gpu {

/// Of the taps that reach coordinates of one remainder: the first, from one to the next, how many, and the pixel of the
/// gradient that the first one reaches from the first of those coordinates.
struct TapsOfClass {
  int first, step, count, source;

  __device__ __forceinline__ TapsOfClass(int remainder, int taps, int stride, int padding, int dilation, int step)
      : first(0), step(step) {
    while (first < taps && (remainder + padding - first * dilation) % stride) ++first;
    count = (taps - first + step - 1) / step;
    source = (remainder + padding - first * dilation) / stride;  // whole, unless there is none
  }
};

/// Rows of a class to pixels of the image.
struct ClassEpilogue {
  Epilogue<float> end;
  Divisor across, down;
  int rows, height, width, stride_h, stride_w, first_h, first_w;

  __device__ __forceinline__ bool narrow() const { return end.narrow(); }
  template <int V>
  __device__ __forceinline__ auto columns(int column) const {
    return end.template columns<V>(column);
  }
  template <int V, class Columns>
  __device__ __forceinline__ void store(int row, int column, const Columns& kept, const float (&sums)[V]) const {
    int x, y;
    const int which = down.divide(across.divide(row, x), y);
    x = x * stride_w + first_w;
    y = y * stride_h + first_h;
    if (row < rows && y < height && x < width)
      end.template store<V>((which * height + y) * width + x, column, kept, sums);
  }
};

}  // namespace gpu

/// output [N, H, W, C] of grad [N, OH, OW, O] and weight [O, kh, kw, C / groups], rows of `filters`, `channels` a
/// group.
///
/// Grid: tiles, parts of the sum, classes times groups. `channels` may be padded in the weight to
/// `weight_channels`, `filters` in the gradient to `grad_filters`. With more parts than one, output is float32
/// [parts, N, H, W, C].
template <class T, int VECTOR, int BM, int BN, int BK, int WARPS_M, int WARPS, int STAGES>
__global__ void __launch_bounds__(32 * WARPS, 1)
    conv2d_input_grad(const T* __restrict__ grad, const T* __restrict__ weight, void* __restrict__ output, int images,
                      int height, int width, int out_height, int out_width, int channels, int weight_channels,
                      int filters, int grad_filters, int groups, int kernel_h, int kernel_w, int stride_h, int stride_w,
                      int padding_h, int padding_w, int dilation_h, int dilation_w, int tap_step_h, int tap_step_w,
                      int group_m) {
  using namespace gpu;
  using Tile = Product<T, T, BM, BN, BK, WARPS_M, WARPS / WARPS_M, STAGES, false, true>;
  DYNAMIC_SHARED(unsigned char, shared);
  const int group = blockIdx.z % groups, kind = blockIdx.z / groups;
  const int remainder_h = kind / stride_w, remainder_w = kind % stride_w;
  const TapsOfClass down(remainder_h, kernel_h, stride_h, padding_h, dilation_h, tap_step_h);
  const TapsOfClass across(remainder_w, kernel_w, stride_w, padding_w, dilation_w, tap_step_w);

  const int lines = (height + stride_h - 1) / stride_h, line = (width + stride_w - 1) / stride_w;
  const int rows = images * lines * line, run = (filters + BK - 1) / BK * BK;
  const int2 tile = grouped(blockIdx.x, (rows + BM - 1) / BM, (channels + BN - 1) / BN, group_m);
  const int m0 = tile.x * BM, n0 = tile.y * BN;
  const int2 part = part_of(down.count * across.count * (run / BK));
  const int taps_w = max(across.count, 1);
  const Gather gather{rows,
                      lines,
                      line,
                      1,
                      1,
                      down.source,
                      across.source,
                      out_height,
                      out_width,
                      grad_filters * groups,
                      down.count,
                      taps_w,
                      -tap_step_h * dilation_h / stride_h,
                      -tap_step_w * dilation_w / stride_w,
                      run,
                      filters};
  Windows<T, VECTOR, BM, BK, Tile::THREADS> load_a(grad + group * grad_filters, gather, m0, part.x, 0);
  const int beside = weight_channels, below = kernel_w * beside;
  const int pitch = kernel_h * below;
  TapsOfFilters<T, VECTOR, BN, BK, Tile::THREADS> load_b(
      weight + static_cast<long long>(group) * filters * pitch + down.first * below + across.first * beside, pitch,
      tap_step_h * below, tap_step_w * beside, filters, run, taps_w, n0, weight_channels, part.x);
  Tile product;
  product.run(shared, load_a, load_b, part.x, part.y);

  const bool partial = gridDim.y > 1;
  const int pixels = images * height * width, type = partial ? FLOAT32 : type_of<T>;
  const long long all = static_cast<long long>(channels) * groups;
  const long long at = (partial ? blockIdx.y * (pixels * all) : 0) + group * channels;
  const ClassEpilogue end{{moved(output, type, at), type, pixels, channels, all},
                          Divisor(line),
                          Divisor(lines),
                          rows,
                          height,
                          width,
                          stride_h,
                          stride_w,
                          remainder_h,
                          remainder_w};
  product.finish(shared, m0, n0, end);
}

/// output [O, kh, kw, C / groups] of grad [N, OH, OW, O] and image [N, H, W, C].
///
/// Grid: tiles of filters by taps' channels, parts of the sum, groups. With more parts than one, output is
/// float32 [parts, O, kh, kw, C / groups]. `filters` of a group may be padded in the gradient to `grad_filters`.
template <class T, int VECTOR, int BM, int BN, int BK, int WARPS_M, int WARPS, int STAGES>
__global__ void __launch_bounds__(32 * WARPS, 1)
    conv2d_weight_grad(const T* __restrict__ grad, const T* __restrict__ image, void* __restrict__ output, int images,
                       int height, int width, int out_height, int out_width, int channels, int filters,
                       int grad_filters, int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h,
                       int padding_w, int dilation_h, int dilation_w, int group_m) {
  using namespace gpu;
  using Tile = Product<T, T, BM, BN, BK, WARPS_M, WARPS / WARPS_M, STAGES, true, true>;
  DYNAMIC_SHARED(unsigned char, shared);
  const int group = blockIdx.z, groups = gridDim.z;
  const int pixels = images * out_height * out_width, terms = kernel_h * kernel_w * channels;
  const int2 tile = grouped(blockIdx.x, (filters + BM - 1) / BM, (terms + BN - 1) / BN, group_m);
  const int m0 = tile.x * BM, n0 = tile.y * BN;
  const int2 part = part_of((pixels + BK - 1) / BK);
  const Gather gather{pixels, out_height,        out_width, stride_h, stride_w,   -padding_h, -padding_w, height,
                      width,  channels * groups, kernel_h,  kernel_w, dilation_h, dilation_w, channels,   channels};
  Pixels<T, VECTOR, BM, BK, Tile::THREADS> load_a(grad + group * grad_filters, grad_filters * groups, pixels, m0,
                                                  grad_filters);
  WindowsOfPixels<T, VECTOR, BN, BK, Tile::THREADS> load_b(image + group * channels, gather, n0);
  Tile product;
  product.run(shared, load_a, load_b, part.x, part.y);

  const bool partial = gridDim.y > 1;
  const int type = partial ? FLOAT32 : type_of<T>;
  const long long row = (partial ? static_cast<long long>(blockIdx.y) * groups * filters : 0) + group * filters;
  const Epilogue<float> end{moved(output, type, row * terms), type, filters, terms, terms};
  product.finish(shared, m0, n0, end);
}
