// Element-wise passes with parameters by channel: bias and activation, to and from 8 bits.
//
// Idea: a dense tensor is a run of elements; element e is of channel e / inner % channels (inner is 1 in channels-last,
// a plane's pixels in NCHW, all with one parameter for everything). A thread takes one vector of 16 bytes of the wider
// of input and output, divides once for its first element and counts on from there. A change of layout (scale_turned)
// goes through shared memory, bytes in one order and floats in the other.
//
// Limit: the bytes read and written, as each is touched once (cvperf/backends/gpu/model.py: streamed_share).
//
// Not yet run on hardware.
#include "activation.cuh"
#include "vector.cuh"

/// The channels of neighbouring elements.
struct Channels {
  long long inside, inner;  // place within the run of a channel, and its length
  int channel, count;

  __device__ __forceinline__ Channels(long long element, long long inner_, int channels)
      : inner(inner_), count(channels) {
    const unsigned long long most = 0xffffffffu;
    if (static_cast<unsigned long long>(element) <= most && static_cast<unsigned long long>(inner) <= most) {
      const unsigned run = static_cast<unsigned>(element) / static_cast<unsigned>(inner);
      inside = static_cast<unsigned>(element) - run * static_cast<unsigned>(inner);
      channel = static_cast<int>(run % static_cast<unsigned>(count));
    } else {
      inside = element % inner;
      channel = static_cast<int>(element / inner % count);
    }
  }

  /// The channel of this element; then on to the next.
  __device__ __forceinline__ int next() {
    const int found = channel;
    if (++inside == inner) {
      inside = 0;
      channel = channel + 1 == count ? 0 : channel + 1;
    }
    return found;
  }
};

/// Elements that fill 16 bytes of the wider type.
template <class X, class Y>
constexpr int VECTOR = 16 / static_cast<int>(sizeof(X) > sizeof(Y) ? sizeof(X) : sizeof(Y));

template <int V>
__device__ __forceinline__ long long first_element() {
  return (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) * V;
}

__device__ __forceinline__ int left(long long elements, long long first) {
  return static_cast<int>(min(elements - first, 16ll));
}

/// out = activation(x + bias[channel] + residual). Grid: threads of a vector each.
template <class T>
__global__ void __launch_bounds__(256)
    bias_activation(const T* __restrict__ x, const T* __restrict__ bias, const T* __restrict__ residual,
                    T* __restrict__ out, long long elements, long long inner, int channels, int activation) {
  constexpr int V = VECTOR<T, T>;
  const long long first = first_element<V>();
  if (first >= elements) return;
  const int inside = left(elements, first);
  T given[V], more[V];
  gpu::load<V>(given, x + first, inside);
  float values[V];
#pragma unroll
  for (int v = 0; v < V; ++v) values[v] = gpu::to_float(given[v]);
  if (bias) {
    Channels at(first, inner, channels);
#pragma unroll
    for (int v = 0; v < V; ++v) values[v] += gpu::to_float(bias[at.next()]);
  }
  if (residual) {
    gpu::load<V>(more, residual + first, inside);
#pragma unroll
    for (int v = 0; v < V; ++v) values[v] += gpu::to_float(more[v]);
  }
  gpu::activate(activation, values);
#pragma unroll
  for (int v = 0; v < V; ++v) given[v] = gpu::from_float<T>(values[v]);
  gpu::store<V>(out + first, given, inside);
}

/// out = round(x / scale) + zero, saturated to Q, half to even. Steps: 1 for one parameter a channel, 0 for one for
/// all.
template <class T, class Q>
__global__ void __launch_bounds__(256)
    quantize(const T* __restrict__ x, const float* __restrict__ scale, int scale_step, const int* __restrict__ zero,
             int zero_step, Q* __restrict__ out, long long elements, long long inner, int channels) {
  constexpr int V = VECTOR<T, Q>;
  const long long first = first_element<V>();
  if (first >= elements) return;
  const int inside = left(elements, first);
  T given[V];
  gpu::load<V>(given, x + first, inside);
  Channels at(first, inner, channels);
  Q whole[V];
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const int channel = at.next();
    whole[v] =
        gpu::requantise<Q>(gpu::to_float(given[v]), 1.0f / scale[channel * scale_step], zero[channel * zero_step]);
  }
  gpu::store<V>(out + first, whole, inside);
}

/// out = (q - offset) * factor; steps as above. Offset is int or float.
template <class Q, class Offset, class T>
__global__ void __launch_bounds__(256)
    scale(const Q* __restrict__ q, const Offset* __restrict__ offset, int offset_step, const float* __restrict__ factor,
          int factor_step, T* __restrict__ out, long long elements, long long inner, int channels) {
  constexpr int V = VECTOR<Q, T>;
  const long long first = first_element<V>();
  if (first >= elements) return;
  const int inside = left(elements, first);
  Q given[V];
  gpu::load<V>(given, q + first, inside);
  Channels at(first, inner, channels);
  T real[V];
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const int channel = at.next();
    const float value = static_cast<float>(given[v]) - static_cast<float>(offset[channel * offset_step]);
    real[v] = gpu::from_float<T>(value * factor[channel * factor_step]);
  }
  gpu::store<V>(out + first, real, inside);
}

/// The same with a parameter a channel from pixels (channels-last) to planes (NCHW), or back. A block turns PIXELS
/// pixels of an image, up to CHANNELS channels at a time. Grid: images, blocks of pixels.
template <class T, bool TO_PLANES>
__global__ void __launch_bounds__(256)
    scale_turned(const unsigned char* __restrict__ q, const float* __restrict__ offset,
                 const float* __restrict__ factor, T* __restrict__ out, int pixels, int channels) {
  constexpr int PIXELS = 512, CHANNELS = 16, THREADS = 256, V = VECTOR<T, T>;
  SHARED(unsigned char, tile, [PIXELS * CHANNELS]);  // by pixels
  const int first = blockIdx.y * PIXELS, count = min(pixels - first, PIXELS);
  const long long image = static_cast<long long>(blockIdx.x) * pixels * channels;
  for (int start = 0; start < channels; start += CHANNELS) {
    const int width = min(channels - start, CHANNELS);
    // In pixels these are `count` runs of `width` bytes, in planes `width` runs of `count` bytes. The innermost index
    // of each loop is that of memory.
    for (int i = threadIdx.x; i < count * width; i += THREADS) {
      const int pixel = TO_PLANES ? i / width : i % count, channel = TO_PLANES ? i % width : i / count;
      tile[pixel * width + channel] =
          q[image + (TO_PLANES ? (first + pixel) * static_cast<long long>(channels) + start + channel
                               : (start + channel) * static_cast<long long>(pixels) + first + pixel)];
    }
    __syncthreads();
    if constexpr (TO_PLANES) {
      const int across = (count + V - 1) / V;
      for (int i = threadIdx.x; i < across * width; i += THREADS) {
        const int pixel = i % across * V, channel = i / across;
        const float less = offset[start + channel], times = factor[start + channel];
        T real[V];
#pragma unroll
        for (int v = 0; v < V; ++v)
          real[v] = gpu::from_float<T>((static_cast<float>(tile[min(pixel + v, count - 1) * width + channel]) - less) *
                                       times);
        gpu::store<V>(out + image + (start + channel) * static_cast<long long>(pixels) + first + pixel, real,
                      count - pixel);
      }
    } else if (width == channels) {  // the block's part of the output is one run
      for (int i = threadIdx.x * V; i < count * width; i += THREADS * V) {
        T real[V];
#pragma unroll
        for (int v = 0; v < V; ++v) {
          const int at = min(i + v, count * width - 1), channel = at % width;
          real[v] = gpu::from_float<T>((static_cast<float>(tile[at]) - offset[channel]) * factor[channel]);
        }
        gpu::store<V>(out + image + static_cast<long long>(first) * channels + i, real, count * width - i);
      }
    } else {
      for (int i = threadIdx.x; i < count * width; i += THREADS) {
        const int channel = start + i % width;
        out[image + (first + i / width) * static_cast<long long>(channels) + channel] =
            gpu::from_float<T>((static_cast<float>(tile[i]) - offset[channel]) * factor[channel]);
      }
    }
    __syncthreads();
  }
}
