// Where the windows of a pooling layer lie, and the walk over them that its kinds share.
#pragma once
#include "buffer.hpp"
#include "pool2d.hpp"
#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {

constexpr std::int64_t kPoolAloneElements = 1 << 15;  // fewer than these take longer to share out than to compute

// The input rows (or columns) of one output row (or column), the padding left out.
struct Span {
  std::int64_t first, count;
  std::int64_t padded;  // how many there are with the padding
};

CVPERF_INLINE Span span_of(const Pool2dShape& shape, int axis, std::int64_t i) {
  const std::int64_t in = shape.in[axis], out = shape.out[axis];
  if (shape.adaptive) {
    const std::int64_t first = i * in / out, count = ((i + 1) * in + out - 1) / out - first;
    return {first, count, count};
  }
  const std::int64_t kernel = shape.kernel[axis], padding = shape.padding[axis], dilation = shape.dilation[axis];
  const std::int64_t start = i * shape.stride[axis] - padding;
  const std::int64_t before = start < 0 ? (-start + dilation - 1) / dilation : 0;  // rows above the image
  const std::int64_t first = start + before * dilation;
  const std::int64_t inside = first < in ? (in - 1 - first) / dilation + 1 : 0;
  const std::int64_t count = inside < kernel - before ? inside : kernel - before;
  const std::int64_t end = start + kernel < in + padding ? start + kernel : in + padding;
  return {first, count > 0 ? count : 0, end - start};
}

CVPERF_INLINE bool is_empty(const Pool2dShape& shape) {
  return shape.images * shape.channels * shape.out[0] * shape.out[1] == 0;
}

CVPERF_INLINE int threads_for(const Pool2dShape& shape, int num_threads) {
  const std::int64_t pixels = shape.in[0] * shape.in[1] + shape.out[0] * shape.out[1];
  return shape.images * shape.channels * pixels < kPoolAloneElements ? 1 : num_threads;
}

// The elements of one window: `corner` is the first of its pixels, the steps are from one to the next.
template <class T>
struct PoolWindow {
  const T* corner;
  Span rows, columns;
  std::int64_t row_step, column_step, channels;
};

// work(window, out) for every window of a layer that is not empty. A task is a row of the output, or a pixel where
// there are too few rows for the threads.
template <class In, class Out, class Work>
void for_each_window(const Pool2dShape& shape, const void* input, void* output, int num_threads, const Work& work) {
  const std::int64_t rows = shape.images * shape.out[0], width = shape.out[1], channels = shape.channels;
  const std::int64_t pitch = shape.in[1] * channels;
  const std::int64_t row_dilation = shape.adaptive ? 1 : shape.dilation[0];
  const std::int64_t column_dilation = shape.adaptive ? 1 : shape.dilation[1];
  Buffer<Span, 256> columns(static_cast<std::size_t>(width));
  for (std::int64_t j = 0; j < width; ++j) columns[static_cast<std::size_t>(j)] = span_of(shape, 1, j);
  const Span* const column = columns.data();
  const int threads = threads_for(shape, num_threads);
  const std::int64_t cuts = threads == 1 || rows >= 4 * threads ? 1 : width;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
  for (std::int64_t task = 0; task < rows * cuts; ++task) {
    const std::int64_t row = task / cuts, first = task % cuts, end = cuts > 1 ? first + 1 : width;
    const In* const image = static_cast<const In*>(input) + row / shape.out[0] * shape.in[0] * pitch;
    const Span y = span_of(shape, 0, row % shape.out[0]);
    Out* out = static_cast<Out*>(output) + (row * width + first) * channels;
    for (std::int64_t j = first; j < end; ++j, out += channels) {
      const In* const corner = image + y.first * pitch + column[j].first * channels;
      work(PoolWindow<In>{corner, y, column[j], row_dilation * pitch, column_dilation * channels, channels}, out);
    }
  }
}

// kVectors vectors of channels from `channel` on, of which all lanes are there if kWhole and `channels` otherwise.
// A reduction has vectors of Lanes elements, which it reads, starts from, adds and writes.
template <int kVectors, bool kWhole, class Reduction, class In, class Out>
CVPERF_INLINE void pool_vectors(const Reduction& reduction, const PoolWindow<In>& window, std::int64_t channel,
                                Out* out) {
  constexpr int L = Reduction::kLanes;
  const int lanes = kWhole ? L : static_cast<int>(window.channels);
  typename Reduction::Lanes result[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) result[v] = reduction.start();
  const In* row = window.corner + channel;
  for (std::int64_t i = 0; i < window.rows.count; ++i, row += window.row_step) {
    const In* pixel = row;
    for (std::int64_t j = 0; j < window.columns.count; ++j, pixel += window.column_step) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v)
        result[v] = reduction.add(result[v], reduction.template read<kWhole>(pixel + v * L, lanes));
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) reduction.template write<kWhole>(out + channel + v * L, result[v], lanes);
}

// Every channel of a window. The last vector takes some channels again where they do not fill it.
template <class Reduction, class In, class Out>
CVPERF_INLINE void pool_window(const Reduction& reduction, const PoolWindow<In>& window, Out* out) {
  constexpr int L = Reduction::kLanes;
  const std::int64_t channels = window.channels;
  if (channels < L) return pool_vectors<1, false>(reduction, window, 0, out);
  std::int64_t c = 0;
  for (; c + 4 * L <= channels; c += 4 * L) pool_vectors<4, true>(reduction, window, c, out);
  for (; c + L <= channels; c += L) pool_vectors<1, true>(reduction, window, c, out);
  if (c < channels) pool_vectors<1, true>(reduction, window, channels - L, out);
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
