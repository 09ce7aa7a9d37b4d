// Weight gradient of a 2-D convolution: dW[k][o] = sum over pixels of X[pixel + k] * dY[pixel][o], where k counts the
// channels and taps and X[pixel + k] is what tap and channel k of that pixel's window see.
//
// The register tile is a few k by a block of filters, and it sums over pixels: X is broadcast, dY read as vectors.
// For a chunk of about 64 pixels the image under it, a block of channels of it, is copied with its padding (once for
// all taps, 1 / (taps * filters) of the work), as is dY, so both lie without conflicts in L1 and every k is one
// offset in the strip (conv2d_offset_tile.hpp): any kernel, stride, dilation and number of channels alike, and three
// channels fill the tile as well as 300. Filters run in the lanes in both memory orders; NCHW is transposed while
// it is copied. Sums over chunks are kept for each segment of the pixels; how many segments there are follows from
// the shape alone and they are added in order, so the result does not depend on threads. On Zen 4 3x3 kernels reach
// 80 to 87 % of the multiply-add peak, 1x1 60 to 75 %.
#include "buffer.hpp"
#include "conv2d.hpp"
#include "conv2d_layer.hpp"
#include "conv2d_offset_sums.hpp"
#include "shuffle.hpp"
#include "thread_index.hpp"

namespace cvperf {
namespace CVPERF_ISA {

bool depthwise_weight_grad(const ConvProblem& problem, const void* grad, void* out);  // conv2d_depthwise_grad.cpp
bool winograd_weight_grad(const ConvProblem& problem, const void* grad, void* out);   // conv2d_winograd_grad.cpp

namespace {

constexpr std::int64_t kChunk = 64;            // pixels summed in registers
constexpr std::int64_t kBlock = 64;            // channels, and filters, of a task
constexpr std::int64_t kPointwiseBlock = 256;  // the same for 1x1 kernels, where a copy serves one tap only
constexpr std::int64_t kWantedTasks = 16;
constexpr std::int64_t kLine = 16;  // numbers; a pixel of the strip has an odd count of these

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

template <class C>
CVPERF_INLINE void fill_zero(C* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = C(0);
}

// One axis of the strip. With several taps it holds every image row (column) under the chunk, with one tap only
// those that outputs read.
struct Axis {
  Axis(const Tap* taps, std::int64_t count, std::int64_t stride) : stride(stride) {
    low = high = taps[0].offset;
    for (std::int64_t i = 1; i < count; ++i) {
      if (taps[i].offset < low) low = taps[i].offset;
      if (taps[i].offset > high) high = taps[i].offset;
    }
    step = high == low ? stride : 1;
  }
  std::int64_t size(std::int64_t outputs) const { return (outputs - 1) * (stride / step) + high - low + 1; }
  std::int64_t output(std::int64_t i) const { return i * (stride / step); }  // where output i's window starts
  std::int64_t image(std::int64_t first, std::int64_t i) const { return first * stride + low + i * step; }
  std::int64_t stride, step, low, high;
};

// Output pixels [y, y + rows) x [x, x + columns) of image n; they are consecutive in memory.
struct Chunk {
  std::int64_t n, y, rows, x, columns;
  std::int64_t pixels() const { return rows * columns; }
};

template <class T>
struct WeightGrad {
  using C = Compute<T>;

  const ConvProblem& p;  // the forward problem; p.in is the image
  const T* grad;
  Axis vertical, horizontal;
  std::int64_t channel_block, filter_block;  // of a task; the latter in whole vectors
  std::int64_t pixel_pitch;                  // of the strip
  std::int64_t rows, pieces;                 // of a chunk; chunks side by side in a row

  std::int64_t bands() const { return ceil_div(p.out_height, rows); }
  std::int64_t chunks() const { return p.batch * bands() * pieces; }
  Chunk chunk(std::int64_t i) const {
    const std::int64_t piece = i % pieces, band = i / pieces % bands();
    const std::int64_t y = p.out_height * band / bands(), x = p.out_width * piece / pieces;
    return {i / pieces / bands(), y, p.out_height * (band + 1) / bands() - y, x,
            p.out_width * (piece + 1) / pieces - x};
  }
  std::int64_t row_pitch() const { return horizontal.size(ceil_div(p.out_width, pieces)) * pixel_pitch; }
  std::int64_t strip_size() const { return vertical.size(rows) * row_pitch() + kLine; }

  // k counts as the weight's memory does, so that a block of the result is a transpose.
  bool taps_first() const { return p.weight_channel == 1; }

  void fill_table(std::int64_t channels, std::int64_t* in_strip) const {
    for (std::int64_t tap = 0; tap < p.taps(); ++tap) {
      const std::int64_t row = p.tap_rows[tap / p.num_tap_columns].offset - vertical.low;
      const std::int64_t column = p.tap_columns[tap % p.num_tap_columns].offset - horizontal.low;
      for (std::int64_t c = 0; c < channels; ++c)
        in_strip[taps_first() ? tap * channels + c : c * p.taps() + tap] = row * row_pitch() + column * pixel_pitch + c;
    }
  }

  void fill_strip(const Chunk& k, std::int64_t channel, std::int64_t channels, C* strip) const {
    const T* image = static_cast<const T*>(p.in) + k.n * p.in_batch + channel * p.in_channel;
    const std::int64_t columns = horizontal.size(k.columns), step = horizontal.step;
    std::int64_t low = 0, high = columns;
    while (low < high && horizontal.image(k.x, low) < 0) ++low;
    while (high > low && horizontal.image(k.x, high - 1) >= p.in_width) --high;
    for (std::int64_t r = 0; r < vertical.size(k.rows); ++r, strip += row_pitch()) {
      const std::int64_t y = vertical.image(k.y, r);
      if (y < 0 || y >= p.in_height || low == high) {
        fill_zero(strip, columns * pixel_pitch);
        continue;
      }
      fill_zero(strip, low * pixel_pitch);
      const T* from = image + y * p.in_row + horizontal.image(k.x, low) * p.in_column;
      C* to = strip + low * pixel_pitch;
      if (p.channels_last && step == 1 && channels == p.in_column && channels == pixel_pitch) {
        widen_run(from, (high - low) * channels, to);
      } else if (p.channels_last) {
        for (std::int64_t i = low; i < high; ++i, from += step * p.in_column, to += pixel_pitch)
          widen_run(from, channels, to);
      } else if (step == 1) {
        transpose_block<true>(from, p.in_channel, channels, high - low, to, pixel_pitch);
      } else {
        for (std::int64_t i = low; i < high; ++i, from += step, to += pixel_pitch)
          for (std::int64_t c = 0; c < channels; ++c) to[c] = to_compute(from[c * p.in_channel]);
      }
      fill_zero(strip + high * pixel_pitch, (columns - high) * pixel_pitch);
    }
  }

  void fill_gradient(const Chunk& k, std::int64_t filter, std::int64_t filters, C* to) const {
    const T* from = grad + k.n * p.out_batch + filter * p.out_channel + (k.y * p.out_width + k.x) * p.out_column;
    for (std::int64_t f = 0; f < filters; f += kPanel<C>, to += kChunk * kPanel<C>) {
      const std::int64_t width = filters - f < kPanel<C> ? filters - f : kPanel<C>;
      if (p.channels_last) {
        for (std::int64_t i = 0; i < k.pixels(); ++i) {
          widen_run(from + i * p.out_column + f, width, to + i * kPanel<C>);
          fill_zero(to + i * kPanel<C> + width, kPanel<C> - width);
        }
      } else {
        // The transpose writes whole vectors and leaves those beyond alone.
        if (width <= kPanel<C> - kLanes<C>) fill_zero(to, k.pixels() * kPanel<C>);
        transpose_block<true>(from + f * p.out_channel, p.out_channel, width, k.pixels(), to, kPanel<C>);
      }
    }
  }

  void fill_offsets(const Chunk& k, std::int64_t* pixel, std::int64_t* row) const {
    std::int64_t i = 0;
    for (std::int64_t y = 0; y < k.rows; ++y)
      for (std::int64_t x = 0; x < k.columns; ++x, ++i) {
        pixel[i] = vertical.output(y) * row_pitch() + horizontal.output(x) * pixel_pitch;
        row[i] = i * kPanel<C>;
      }
  }
};

// A pointwise problem is one long row of pixels.
void flatten(ConvProblem& p) {
  if (!p.is_pointwise()) return;
  p.in_width = p.out_width = p.in_width * p.in_height * (p.channels_last ? p.batch : 1);
  p.in_height = p.out_height = 1;
  if (p.channels_last) p.batch = 1;
}

template <class T>
void run(ConvProblem p, const void* grad, void* grad_weight) {
  using C = Compute<T>;
  constexpr std::int64_t lanes = kLanes<C>;
  flatten(p);
  WeightGrad<T> job{p,
                    static_cast<const T*>(grad),
                    Axis(p.tap_rows, p.num_tap_rows, p.stride[0]),
                    Axis(p.tap_columns, p.num_tap_columns, p.stride[1]),
                    0,
                    0,
                    0,
                    0,
                    0};
  const std::int64_t most = p.taps() == 1 ? kPointwiseBlock : kBlock;
  const std::int64_t channel_blocks = ceil_div(p.channels, most), filter_blocks = ceil_div(p.filters, most);
  job.channel_block = ceil_div(p.channels, channel_blocks);
  job.filter_block = ceil_div(ceil_div(p.filters, filter_blocks), lanes) * lanes;
  // Few channels lie densely. The transpose of NCHW writes whole vectors, into the pixels that follow if need be.
  job.pixel_pitch = job.channel_block <= (p.channels_last ? kLine : lanes)
                        ? job.channel_block
                        : ceil_div(job.channel_block, kLine) / 2 * 2 * kLine + kLine;
  job.pieces = p.out_width > kChunk ? ceil_div(p.out_width, kChunk) : 1;
  job.rows = job.pieces > 1 || p.out_width == 0 ? 1 : kChunk / p.out_width;
  if (job.rows > p.out_height) job.rows = p.out_height < 1 ? 1 : p.out_height;

  const std::int64_t threads = p.num_threads < 1 ? 1 : p.num_threads;
  const std::int64_t blocks = p.groups * channel_blocks * filter_blocks, chunks = p.out_width ? job.chunks() : 0;
  std::int64_t segments = ceil_div(kWantedTasks, blocks);
  if (segments > chunks / 2) segments = chunks / 2;
  if (segments < 1) segments = 1;
  const std::int64_t depth = p.taps() * job.channel_block, sums_size = depth * job.filter_block;
  Buffer<C> sums(blocks * segments * sums_size), strips(threads * job.strip_size());
  const std::int64_t gradient_size = kChunk * ceil_div(job.filter_block, kPanel<C>) * kPanel<C>;
  Buffer<C> gradients(threads * gradient_size);
  Buffer<std::int64_t> tables(threads * (depth + 2 * kChunk));
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const std::int64_t thread = thread_index();
    std::int64_t* in_strip = tables.data() + thread * (depth + 2 * kChunk);
    std::int64_t *pixel = in_strip + depth, *row = pixel + kChunk;
    C* strip = strips.data() + thread * job.strip_size();
    C* gradient = gradients.data() + thread * gradient_size;
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t task = 0; task < blocks * segments; ++task) {
      const std::int64_t segment = task % segments, block = task / segments;
      const std::int64_t channel = block % channel_blocks * job.channel_block;
      const std::int64_t filter = block / channel_blocks % filter_blocks * job.filter_block;
      const std::int64_t group = block / channel_blocks / filter_blocks;
      C* mine = sums.data() + task * sums_size;
      if (channel >= p.channels || filter >= p.filters) continue;
      const std::int64_t channels = p.channels - channel < job.channel_block ? p.channels - channel : job.channel_block;
      const std::int64_t filters = p.filters - filter < job.filter_block ? p.filters - filter : job.filter_block;
      job.fill_table(channels, in_strip);
      const std::int64_t begin = chunks * segment / segments, end = chunks * (segment + 1) / segments;
      if (begin == end) fill_zero(mine, sums_size);
      for (std::int64_t i = begin; i < end; ++i) {
        const Chunk k = job.chunk(i);
        job.fill_strip(k, group * p.channels + channel, channels, strip);
        job.fill_gradient(k, group * p.filters + filter, filters, gradient);
        job.fill_offsets(k, pixel, row);
        add_windows<C>({strip, gradient, kChunk * kPanel<C>, in_strip, pixel, row, p.taps() * channels, k.pixels(),
                        job.filter_block, i == begin},
                       mine);
      }
    }
    // Segments are added and [k][filter] becomes the weight's order: a run of consecutive k for each filter.
    const std::int64_t runs = job.taps_first() ? p.taps() : 1;
#pragma omp for schedule(dynamic, 4)
    for (std::int64_t i = 0; i < blocks * runs; ++i) {
      const std::int64_t block = i / runs, tap = i % runs;
      const std::int64_t channel = block % channel_blocks * job.channel_block;
      const std::int64_t filter = block / channel_blocks % filter_blocks * job.filter_block;
      const std::int64_t group = block / channel_blocks / filter_blocks;
      if (channel >= p.channels || filter >= p.filters) continue;
      const std::int64_t channels = p.channels - channel < job.channel_block ? p.channels - channel : job.channel_block;
      const std::int64_t filters = p.filters - filter < job.filter_block ? p.filters - filter : job.filter_block;
      const std::int64_t length = channels * (job.taps_first() ? 1 : p.taps());
      C* from = sums.data() + block * segments * sums_size + tap * channels * job.filter_block;
      for (std::int64_t segment = 1; segment < segments; ++segment)
        for (std::int64_t j = 0; j < length * job.filter_block; j += lanes)
          store(from + j, load(from + j) + load(from + segment * sums_size + j));
      T* to =
          static_cast<T*>(grad_weight) + group * p.weight_group + filter * p.weight_filter + channel * p.weight_channel;
      if (job.taps_first()) to += p.tap_weight(tap);
      transpose_block<false>(from, job.filter_block, length, filters, to, p.weight_filter);
    }
  }
}

}  // namespace

void conv2d_weight_grad(const Conv2dWeightGradArgs& a) {
  Buffer<Tap, kFewTaps> rows(a.shape.kernel[0]), columns(a.shape.kernel[1]);
  ConvProblem p = layer_problem(a.shape, rows.data(), columns.data());
  p.in = a.input;
  if (depthwise_weight_grad(p, a.grad_output, a.grad_weight)) return;
  if (winograd_weight_grad(p, a.grad_output, a.grad_weight)) return;
  return with_floating(p.dtype, [&](auto element) { return run<decltype(element)>(p, a.grad_output, a.grad_weight); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
