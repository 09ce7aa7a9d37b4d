// Weight gradient of a 2-D convolution: a matrix product summed over pixels, dW[o][k] = sum of dY[o][p] * X[k][p],
// where k counts (channel, tap) and X[k] is the image shifted by the tap.
//
// Pixels are taken in chunks that fit L2. For a chunk, the shifted images of a block of k and the gradient are
// packed so that the register tile (gemm_tile.hpp) reads one as rows and the other as a panel; which is which
// follows the memory order, so that the larger of the two, X, is copied in runs and only the gradient is
// transposed. Sums over chunks are kept in one buffer a segment of the pixels; how many segments there are follows
// from the shape alone and they are added in order, so the result does not depend on threads.
#include "buffer.hpp"
#include "conv2d.hpp"
#include "conv2d_layer.hpp"
#include "gemm_tile.hpp"
#include "shuffle.hpp"

#ifdef _OPENMP
extern "C" int omp_get_thread_num();
#endif

namespace cvperf {
namespace CVPERF_ISA {

bool depthwise_weight_grad(const ConvProblem& problem, const void* grad, void* out);  // conv2d_depthwise_grad.cpp

namespace {

constexpr std::int64_t kChunk = 128;       // pixels; a multiple of every vector's lanes
constexpr std::int64_t kDepthBlock = 288;  // k in a block, a multiple of every tile's columns
constexpr std::int64_t kWantedTasks = 8;

std::int64_t round_up(std::int64_t x, std::int64_t unit) { return (x + unit - 1) / unit * unit; }

template <class T>
CVPERF_INLINE void copy_run(Compute<T>* to, const T* from, std::int64_t count, std::int64_t step) {
  std::int64_t i = 0;
  if (step == 1) {
    for (; i + kLanes<Compute<T>> <= count; i += kLanes<Compute<T>>) store(to + i, load(from + i));
  } else if (step == 2) {
    for (; i + kLanes<Compute<T>> < count; i += kLanes<Compute<T>>)
      store(to + i, even_lanes<Compute<T>>(load(from + 2 * i), load(from + 2 * i + kLanes<Compute<T>>)));
  }
  for (; i < count; ++i) to[i] = to_compute(from[i * step]);
}

// to[c * pitch + r] = from[r * stride + c]. Rows are written in whole vectors: the lanes beyond are zeros.
template <class T>
void transpose_block(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t columns, Compute<T>* to,
                     std::int64_t pitch) {
  using C = Compute<T>;
  constexpr int lanes = kLanes<C>;
  for (std::int64_t r = 0; r < rows; r += lanes) {
    for (std::int64_t c = 0; c < columns; c += lanes) {
      const int width = static_cast<int>(columns - c < lanes ? columns - c : lanes);
      Vec<C> square[lanes];
      for (int i = 0; i < lanes; ++i) {
        const T* row = from + (r + i) * stride + c;
        square[i] = r + i >= rows ? Vec<C>{} : width == lanes ? load(row) : load_partial(row, width);
      }
      transpose_square<C>(square);
      for (int i = 0; i < width; ++i) store(to + (c + i) * pitch + r, square[i]);
    }
  }
}

template <class T>
struct WeightGrad {
  using C = Compute<T>;
  static constexpr std::int64_t kColumns = kTileColumns<C>;

  const ConvProblem& p;  // the forward problem; p.in is the image
  const T* grad;

  std::int64_t rows(std::int64_t depth) const { return p.channels_last ? p.filters : depth; }
  std::int64_t panels(std::int64_t depth) const {
    return ((p.channels_last ? depth : p.filters) + kColumns - 1) / kColumns;
  }

  // NCHW: row k - first of `to` is channel k / taps, shifted by tap k % taps.
  void pack_rows(std::int64_t n, std::int64_t group, std::int64_t pixel, std::int64_t count, std::int64_t first,
                 std::int64_t last, C* to) const {
    for (std::int64_t k = first; k < last; ++k, to += kChunk) {
      const std::int64_t tap = k % p.taps();
      const Tap &row = p.tap_rows[tap / p.num_tap_columns], &column = p.tap_columns[tap % p.num_tap_columns];
      const T* plane =
          static_cast<const T*>(p.in) + n * p.in_batch + (group * p.channels + k / p.taps()) * p.in_channel;
      std::int64_t y = pixel / p.out_width, x = pixel % p.out_width;
      for (std::int64_t i = 0; i < count; ++y, x = 0) {
        const std::int64_t run = p.out_width - x < count - i ? p.out_width - x : count - i;
        const std::int64_t iy = y * p.stride[0] + row.offset;
        std::int64_t low = 0, high = iy >= 0 && iy < p.in_height ? run : 0;
        while (low < high && (x + low) * p.stride[1] + column.offset < 0) ++low;
        while (high > low && (x + high - 1) * p.stride[1] + column.offset >= p.in_width) --high;
        for (std::int64_t j = 0; j < low; ++j) to[i + j] = C(0);
        if (low < high)
          copy_run(to + i + low, plane + iy * p.in_row + (x + low) * p.stride[1] + column.offset, high - low,
                   p.stride[1]);
        for (std::int64_t j = high; j < run; ++j) to[i + j] = C(0);
        i += run;
      }
    }
  }

  // Channels-last: panel (k - first) / columns of `to` holds, a pixel a row, channel k % channels of tap k / channels.
  void pack_panels(std::int64_t n, std::int64_t group, std::int64_t pixel, std::int64_t count, std::int64_t first,
                   std::int64_t last, C* to) const {
    const T* image = static_cast<const T*>(p.in) + n * p.in_batch + group * p.channels;
    const std::int64_t end = first + round_up(last - first, kColumns);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t y = (pixel + i) / p.out_width, x = (pixel + i) % p.out_width;
      for (std::int64_t k = first; k < last;) {
        const std::int64_t tap = k / p.channels, channel = k % p.channels, lane = (k - first) % kColumns;
        std::int64_t length = kColumns - lane < p.channels - channel ? kColumns - lane : p.channels - channel;
        if (length > last - k) length = last - k;
        C* at = to + (k - first) / kColumns * kChunk * kColumns + i * kColumns + lane;
        const std::int64_t iy = y * p.stride[0] + p.tap_rows[tap / p.num_tap_columns].offset;
        const std::int64_t ix = x * p.stride[1] + p.tap_columns[tap % p.num_tap_columns].offset;
        if (iy >= 0 && iy < p.in_height && ix >= 0 && ix < p.in_width) {
          copy_run(at, image + iy * p.in_row + ix * p.in_column + channel, length, 1);
        } else {
          for (std::int64_t j = 0; j < length; ++j) at[j] = C(0);
        }
        k += length;
      }
      for (std::int64_t k = last; k < end; ++k)
        to[(k - first) / kColumns * kChunk * kColumns + i * kColumns + (k - first) % kColumns] = C(0);
    }
  }

  // NCHW: panels of filters, a pixel a row. Channels-last: a filter a row.
  void pack_gradient(std::int64_t n, std::int64_t group, std::int64_t pixel, std::int64_t count, C* to) const {
    const T* from = grad + n * p.out_batch + group * p.filters * p.out_channel + pixel * p.out_column;
    if (p.channels_last) {
      transpose_block(from, p.out_column, count, p.filters, to, kChunk);
      return;
    }
    for (std::int64_t f = 0; f < p.filters; f += kColumns) {
      const std::int64_t filters = p.filters - f < kColumns ? p.filters - f : kColumns;
      C* panel = to + f * kChunk;
      if (filters <= kColumns - kLanes<C>)  // the transpose leaves the last vectors of a narrow panel unwritten
        for (std::int64_t i = 0; i < count * kColumns; ++i) panel[i] = C(0);
      transpose_block(from + f * p.out_channel, p.out_channel, filters, count, panel, kColumns);
    }
  }

  // Adds pixels [pixel, pixel + count) of image n to sums [panel][row][kColumns] for k in [first, last).
  void add_chunk(std::int64_t n, std::int64_t group, std::int64_t pixel, std::int64_t count, std::int64_t first,
                 std::int64_t last, C* image, C* gradient, const C** pointers, C* sums, bool start) const {
    pack_gradient(n, group, pixel, count, gradient);
    if (p.channels_last) {
      pack_panels(n, group, pixel, count, first, last, image);
    } else {
      pack_rows(n, group, pixel, count, first, last, image);
    }
    const C *a = p.channels_last ? gradient : image, *b = p.channels_last ? image : gradient;
    const std::int64_t height = rows(last - first);
    for (std::int64_t r = 0; r < height; ++r) pointers[r] = a + r * kChunk;
    TileArgs<C> t{};
    t.segments = 1;
    t.length = count;
    t.c_pitch = kColumns;
    for (std::int64_t panel = 0; panel < panels(last - first); ++panel) {
      t.b = b + panel * kChunk * kColumns;
      t.a = pointers;
      t.c = sums + panel * height * kColumns;
      t.init = start ? nullptr : t.c;
      multiply(height, kTileVectors, t);
    }
  }
};

template <class T>
void run(const ConvProblem& p, const void* grad, void* grad_weight) {
  using C = Compute<T>;
  constexpr std::int64_t columns = kTileColumns<C>;
  const WeightGrad<T> job{p, static_cast<const T*>(grad)};
  const std::int64_t threads = p.num_threads < 1 ? 1 : p.num_threads;
  const std::int64_t depth = p.depth(), pixels = p.out_height * p.out_width;
  const std::int64_t blocks = (depth + kDepthBlock - 1) / kDepthBlock;
  const std::int64_t block = round_up((depth + blocks - 1) / blocks, columns);
  const std::int64_t chunks_each = (pixels + kChunk - 1) / kChunk, chunks = p.batch * chunks_each;
  std::int64_t segments = (kWantedTasks + blocks * p.groups - 1) / (blocks * p.groups);
  if (segments > chunks / 2) segments = chunks / 2;
  if (segments < 1) segments = 1;

  const std::int64_t padded_filters = round_up(p.filters, columns);
  const std::int64_t sums_size = block * padded_filters;  // of one task: rows x panels, either way round
  const std::int64_t tasks = p.groups * segments * blocks;
  Buffer<C> sums(tasks * sums_size);
  Buffer<C> images(threads * block * kChunk);
  Buffer<C> gradients(threads * padded_filters * kChunk);
  const std::int64_t pointers_size = block > p.filters ? block : p.filters;
  Buffer<const C*> pointers(threads * pointers_size);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    std::int64_t thread = 0;
#ifdef _OPENMP
    thread = omp_get_thread_num();
#endif
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t task = 0; task < tasks; ++task) {
      const std::int64_t b = task % blocks, segment = task / blocks % segments, group = task / blocks / segments;
      const std::int64_t first = b * block, last = first + block < depth ? first + block : depth;
      C* mine = sums.data() + task * sums_size;
      if (first >= last) continue;
      for (std::int64_t i = chunks * segment / segments, begin = i; i < chunks * (segment + 1) / segments; ++i) {
        const std::int64_t pixel = i % chunks_each * kChunk;
        job.add_chunk(i / chunks_each, group, pixel, pixels - pixel < kChunk ? pixels - pixel : kChunk, first, last,
                      images.data() + thread * block * kChunk, gradients.data() + thread * padded_filters * kChunk,
                      pointers.data() + thread * pointers_size, mine, i == begin);
      }
    }
#pragma omp for schedule(static)
    for (std::int64_t filter = 0; filter < p.groups * p.filters; ++filter) {
      const std::int64_t group = filter / p.filters, f = filter % p.filters;
      T* to = static_cast<T*>(grad_weight) + group * p.weight_group + f * p.weight_filter;
      std::int64_t tap_row = 0, tap_column = 0, channel = 0;
      for (std::int64_t b = 0; b < blocks; ++b) {
        const std::int64_t size = depth - b * block < block ? depth - b * block : block, height = job.rows(size);
        const C* from = sums.data() + (group * segments * blocks + b) * sums_size;
        for (std::int64_t i = 0; i < size; ++i) {
          const std::int64_t row = p.channels_last ? f : i, column = p.channels_last ? i : f;
          const std::int64_t at = (column / columns * height + row) * columns + column % columns;
          C sum = 0;
          for (std::int64_t s = 0; chunks > 0 && s < segments; ++s) sum += from[s * blocks * sums_size + at];
          to[p.tap_rows[tap_row].weight + p.tap_columns[tap_column].weight + channel * p.weight_channel] =
              from_compute<T>(sum);
          // The next k: channels run fastest in a channels-last image, taps in a planar one.
          if (p.channels_last && ++channel < p.channels) continue;
          if (p.channels_last) channel = 0;
          if (++tap_column < p.num_tap_columns) continue;
          tap_column = 0;
          if (++tap_row < p.num_tap_rows) continue;
          tap_row = 0;
          if (!p.channels_last) ++channel;
        }
      }
    }
  }
}

}  // namespace

void conv2d_weight_grad(const Conv2dWeightGradArgs& a) {
  Buffer<Tap> rows(a.shape.kernel[0]), columns(a.shape.kernel[1]);
  ConvProblem p = layer_problem(a.shape, rows.data(), columns.data());
  p.in = a.input;
  if (depthwise_weight_grad(p, a.grad_output, a.grad_weight)) return;
  return with_floating(p.dtype, [&](auto element) { return run<decltype(element)>(p, a.grad_output, a.grad_weight); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
