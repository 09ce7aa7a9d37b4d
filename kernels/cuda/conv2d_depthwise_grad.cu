// The gradient of a depthwise convolution's weight: for each tap and channel a sum over all pixels.
//
// Idea: a thread has VECTOR channels (16 bytes) and one row of taps, all K of it in registers. It walks strips of STRIP
// pixels of the gradient, loads each once with the pixels of the image that its row of the window covers, and
// multiplies every pair that meets. Threads of a block are `lanes` vectors of channels by `rows` rows of taps by
// workers, so that the rows of taps share their reads through L1. Workers' sums are added in shared memory in their
// order, blocks' by conv2d_reduce in theirs: the same bits in every run. K = 0 is any window: a row of one tap for each
// tap.
//
// Predicted, batch 32, float16, 96 channels at 112x112, 3x3: 85 us on an H100, of which memory takes 51. Not yet run on
// hardware.
#include "conv2d_depthwise.cuh"

template <class T, int VECTOR, int K, int STRIDE>
__global__ void __launch_bounds__(256, 1)
    conv2d_depthwise_weight_grad(const T* __restrict__ grad, const T* __restrict__ image, float* __restrict__ parts,
                                 int images, int height, int width, int out_height, int out_width, int filters,
                                 int multiplier, int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h,
                                 int padding_w, int dilation_h, int dilation_w, int lanes, int rows) {
  using namespace gpu;
  constexpr int STRIP = 4, COLUMNS = K ? K : 1;
  constexpr int STEP = K ? STRIDE : 1;
  using S = Strip<COLUMNS, STEP, false, STRIP>;
  SHARED(float, sums_of, [256 * VECTOR]);

  const int taps_w = K ? K : kernel_w, taps = K ? K * K : kernel_h * kernel_w;
  const int tap_rows = K ? K : taps;  // of COLUMNS taps
  const int blocks_c = (filters / VECTOR + lanes - 1) / lanes;
  const int lane = threadIdx.x % lanes, row = threadIdx.x / lanes % rows, worker = threadIdx.x / (lanes * rows);
  const int workers = blockDim.x / (lanes * rows);
  const int c = (blockIdx.x % blocks_c * lanes + lane) * VECTOR;
  const int tap_row = blockIdx.x / blocks_c * rows + row;
  const bool active = worker < workers && c < filters && tap_row < tap_rows;
  const int k_h = K ? tap_row : tap_row / taps_w, k_w = K ? 0 : tap_row % taps_w;
  const int dx = K ? 1 : dilation_w, step_x = K ? STRIDE : stride_w;

  float sums[COLUMNS][VECTOR] = {};
  if (active) {
    const int strips = (out_width + STRIP - 1) / STRIP, total = images * out_height * strips;
    const int pitch = filters / multiplier;
    for (int at = blockIdx.y * workers + worker; at < total; at += gridDim.y * workers) {
      const int x = at % strips * STRIP, line = at / strips, y = line % out_height;
      const int from_y = y * (K ? STRIDE : stride_h) - padding_h + k_h * (K ? 1 : dilation_h);
      if (static_cast<unsigned>(from_y) >= static_cast<unsigned>(height)) continue;
      const T* g_row = grad + (static_cast<long long>(line) * out_width + x) * filters + c;
      const long long image_line = static_cast<long long>(line / out_height) * height + from_y;
      const T* i_row = image + image_line * width * pitch + c / multiplier;
      Vector<T, VECTOR> g[STRIP];
#pragma unroll
      for (int i = 0; i < STRIP; ++i) {
        g[i] = {};
        if (x + i < out_width) g[i] = vector_at<T, VECTOR>(g_row + i * filters);
      }
      const int from_x = x * step_x - padding_w + k_w * dx;
      constexpr int PIXELS = K ? S::pixels : STRIP;  // K = 0: pixel j is that of output j
      Vector<T, VECTOR> pixel[PIXELS];
#pragma unroll
      for (int j = 0; j < PIXELS; ++j) {
        const int at_x = from_x + j * (K ? 1 : step_x);
        pixel[j] = {};
        if (static_cast<unsigned>(at_x) < static_cast<unsigned>(width))
          pixel[j] = vector_at<T, VECTOR>(i_row + at_x * pitch);
      }
#pragma unroll
      for (int v = 0; v < VECTOR; ++v)
#pragma unroll
        for (int i = 0; i < STRIP; ++i) {
          const float slope = widened(g[i].values[v]);
#pragma unroll
          for (int k = 0; k < COLUMNS; ++k) sums[k][v] += slope * widened(pixel[K ? i * STEP + k : i].values[v]);
        }
    }
  }

  // A column of taps after the other: the workers' sums, added by the first worker.
#pragma unroll
  for (int k = 0; k < COLUMNS; ++k) {
    __syncthreads();
#pragma unroll
    for (int v = 0; v < VECTOR; ++v) sums_of[threadIdx.x * VECTOR + v] = sums[k][v];
    __syncthreads();
    if (!active || worker) continue;
    const int tap = K ? tap_row * K + k : tap_row;
#pragma unroll
    for (int v = 0; v < VECTOR; ++v) {
      float sum = 0.0f;
      for (int other = 0; other < workers; ++other) sum += sums_of[(threadIdx.x + other * lanes * rows) * VECTOR + v];
      parts[(static_cast<long long>(blockIdx.y) * filters + c + v) * taps + tap] = sum;
    }
  }
}
