// Depthwise convolution, channels last: forward, and the gradient of its input, which is the same gather.
//
// Idea: no tensor core multiplies it. A thread has VECTOR channels (16 bytes) of STRIP neighbours in a row of the
// output. Of each row of the window it loads every pixel once, 16 bytes at a time, and multiplies it into all outputs
// of the strip that it reaches: a 3x3 kernel at stride 1 loads 4.5 pixels an output, not 9, and unpacks them once. Rows
// are shared by the threads of a block through L1: its tile is `strips` strips by `lines` rows of `lanes` vectors.
// K = 0 is any window: a load for each tap.
//
// Predicted, batch 32, float16, 96 channels at 112x112 with a residual: 3x3 90 us on an H100 (86 % of the roofline;
// memory takes 77 us, 231 MB at 3.0 TB/s) and 151 us on an A100 (96 %); 5x5 169 us (46 %, limited by the issue: 25
// multiply-adds and 18 to unpack an output). Not yet run on hardware.
//
// Source: Triton's kernel of the same name, and the register strips of kernels/cpu/conv2d_strip.hpp.

#include "conv2d_depthwise.cuh"

namespace gpu {

// Sums of `count` neighbours from pixel `at`, V of their channels from c at a time.
template <int V, int STRIP, int VECTOR, class Sum>
__device__ __forceinline__ void store_strip(const Epilogue<Sum>& end, const Sum (&sums)[STRIP][VECTOR], int at,
                                            int count, int c) {
#pragma unroll
  for (int first = 0; first < VECTOR; first += V) {
    const auto kept = end.template columns<V>(c + first);
#pragma unroll
    for (int i = 0; i < STRIP; ++i) {
      if (i >= count) break;
      Sum some[V] = {};
#pragma unroll
      for (int v = 0; v < V && first + v < VECTOR; ++v) some[v] = sums[i][first + v];
      end.template store<V>(at + i, c + first, kept, some);
    }
  }
}

}  // namespace gpu

// Image and weight [kh * kw, O] of T (int8 weights for both 8-bit images); K x K taps at this STRIDE and dilation 1, or
// K = 0. TURNED: the image is the gradient of the output, the output that of the image; K > 0: stride 2, padding K / 2.
template <class T, class W, int VECTOR, int K, int STRIDE, bool TURNED>
__global__ void __launch_bounds__(128, 1)
    conv2d_depthwise(const T* __restrict__ image, const W* __restrict__ weight, void* __restrict__ output, int type,
                     const void* bias, int bias_type, const void* residual, int activation, const float* scale_weight,
                     int scale_step, float scale_image, float scale_residual, float inverse_scale, int zero_image,
                     int zero_residual, int zero_output, int images, int height, int width, int out_height,
                     int out_width, int channels, int multiplier, int weight_pitch, int kernel_h, int kernel_w,
                     int stride_h, int stride_w, int padding_h, int padding_w, int dilation_h, int dilation_w,
                     int lanes, int strips, int lines) {
  using namespace gpu;
  using Sum = decltype(widened(T{}));
  constexpr int STRIP = sizeof(T) == 1 && VECTOR == 16 ? 2 : 4;

  // Blocks: channels fastest, then across, down, images; so are threads. `channels` are those of the output.
  const int vectors = channels / VECTOR;
  const int blocks_c = (vectors + lanes - 1) / lanes;
  const int blocks_x = (out_width + STRIP * strips - 1) / (STRIP * strips);
  const int blocks_y = (out_height + lines - 1) / lines;
  int rest = blockIdx.x;
  const int block_c = rest % blocks_c;
  rest /= blocks_c;
  const int block_x = rest % blocks_x;
  rest /= blocks_x;
  const int which = rest / blocks_y;
  const int thread = threadIdx.x / lanes;
  const int c = (block_c * lanes + threadIdx.x % lanes) * VECTOR;
  const int x = (block_x * strips + thread % strips) * STRIP;
  const int y = rest % blocks_y * lines + thread / strips;
  if (thread / strips >= lines || c >= channels || x >= out_width || y >= out_height) return;

  // What is read has `pitch` channels; a filter reads channel c / multiplier, a turned channel `multiplier` filters.
  const int reads = TURNED ? multiplier : 1;
  const int pitch = TURNED ? channels * multiplier : channels / multiplier;
  const int source_c = TURNED ? c * multiplier : c / multiplier;
  const int weight_c = TURNED ? c * multiplier : c;
  const int taps_h = K ? K : kernel_h, taps_w = K ? K : kernel_w;

  Sum sums[STRIP][VECTOR] = {};
  Vector<T, VECTOR> outside = {};
  if constexpr (sizeof(T) == 1) {  // outside the image stands the zero point, which is taken off again with the rest
    if (zero_image) {
#pragma unroll
      for (int v = 0; v < VECTOR; ++v) outside.values[v] = static_cast<T>(zero_image);
      for (int tap = 0; tap < taps_h * taps_w; ++tap) {
        const auto w = vector_at<W, VECTOR>(weight + tap * weight_pitch + weight_c);
#pragma unroll
        for (int v = 0; v < VECTOR; ++v) sums[0][v] -= zero_image * w.values[v];
      }
#pragma unroll
      for (int i = 1; i < STRIP; ++i)
#pragma unroll
        for (int v = 0; v < VECTOR; ++v) sums[i][v] = sums[0][v];
    }
  }

  for (int k_h = 0; k_h < taps_h; ++k_h) {
    int from_y;
    const bool is_row =
        K ? source_of(y, k_h, TURNED ? 2 : STRIDE, TURNED ? K / 2 : padding_h, 1, height, TURNED, from_y)
          : source_of(y, k_h, stride_h, padding_h, dilation_h, height, TURNED, from_y);
    if (!is_row && (sizeof(T) != 1 || !zero_image)) continue;
    const T* row = image + (static_cast<long long>(which) * height + from_y) * width * pitch + source_c;
    const W* taps = weight + k_h * taps_w * weight_pitch + weight_c;
    if constexpr (K > 0) {
      using S = Strip<K, STRIDE, TURNED, STRIP>;
      const int from_x = TURNED ? x / 2 + S::first : x * STRIDE - padding_w;
      Vector<W, VECTOR> w[K];
#pragma unroll
      for (int k = 0; k < K; ++k) w[k] = vector_at<W, VECTOR>(taps + k * weight_pitch);
      Vector<T, VECTOR> pixel[S::pixels];
#pragma unroll
      for (int j = 0; j < S::pixels; ++j) {
        pixel[j] = outside;
        if (is_row && static_cast<unsigned>(from_x + j) < static_cast<unsigned>(width))
          pixel[j] = vector_at<T, VECTOR>(row + (from_x + j) * pitch);
      }
#pragma unroll
      for (int v = 0; v < VECTOR; ++v) {
        Sum tap[K];
#pragma unroll
        for (int k = 0; k < K; ++k) tap[k] = widened(w[k].values[v]);
#pragma unroll
        for (int j = 0; j < S::pixels; ++j) {
          const Sum value = widened(pixel[j].values[v]);
#pragma unroll
          for (int i = 0; i < STRIP; ++i)
#pragma unroll
            for (int k = 0; k < K; ++k)
              if (S::meets(j, i, k)) sums[i][v] += value * tap[k];
        }
      }
    } else {
      for (int k_w = 0; k_w < taps_w; ++k_w) {
        for (int read = 0; read < reads; ++read) {
          const auto w = vector_at<W, VECTOR>(taps + k_w * weight_pitch + read);
#pragma unroll
          for (int i = 0; i < STRIP; ++i) {
            int from_x;
            const bool is_pixel = source_of(x + i, k_w, stride_w, padding_w, dilation_w, width, TURNED, from_x);
            Vector<T, VECTOR> pixel = outside;
            if (is_row && is_pixel) pixel = vector_at<T, VECTOR>(row + from_x * pitch + read);
#pragma unroll
            for (int v = 0; v < VECTOR; ++v) sums[i][v] += widened(pixel.values[v]) * widened(w.values[v]);
          }
        }
      }
    }
  }

  // A float's output has its own type, which the compiler may know.
  const int out_type = is_same<T, __half> ? FLOAT16 : is_same<T, __nv_bfloat16> ? BFLOAT16 : type;
  Epilogue<Sum> end{output, out_type, images * out_height * out_width, c + VECTOR, channels, bias, bias_type, residual};
  end.activation = activation;
  end.scale_b = {scale_weight, scale_step};
  end.scale = scale_image;
  end.inverse_scale = inverse_scale;
  end.zero_out = zero_output;
  end.scale_residual = scale_residual;
  end.zero_residual = zero_residual;
  const int at = (which * out_height + y) * out_width + x, count = min(STRIP, out_width - x);
  if (end.narrow())
    store_strip<4>(end, sums, at, count, c);
  else
    store_strip<8>(end, sums, at, count, c);
}
