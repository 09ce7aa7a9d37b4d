// Convolution of an image of one to four channels, as every network's first layer is, summed in float32. The sum over
// taps and channels is short (9 to 200 terms), so what a general matrix product spends on a pixel besides multiplying,
// such as pointers, partial sums, a separate epilogue, would be most of the time. Here the image rows under a band of
// outputs are copied once with their padding (a few percent of the output's size), after which every window is the same
// table of offsets, and one register tile (conv2d_offset_tile.hpp) runs the whole sum from bias to activation.
// Channels-last: rows of the tile are pixels, vectors run along filters. NCHW: rows are filters, vectors run along
// pixels of a row; columns are split by residue modulo the stride (conv2d_strip.hpp). 84 % of the multiply-add peak
// of a Zen 4 for 7x7 from 3 channels. Channels-last outputs that no cache holds are stored past them.
//
// Half types, channels-last: the copy of the image rows widens them, and a band of outputs is rounded from scratch.
#include "buffer.hpp"
#include "conv2d_block_end.hpp"
#include "conv2d_offset_tile.hpp"
#include "conv2d_past_caches.hpp"
#include "conv2d_problem.hpp"
#include "conv2d_strip.hpp"
#include "thread_index.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kMostChannels = 4;
constexpr std::int64_t kStripBytes = 48 * 1024;
constexpr int kMostRows = 8;  // of any tile: the weight is padded for that many filters more

template <class T>
void narrow(const float* from, std::int64_t count, T* to) {
  std::int64_t i = 0;
  for (; i + kLanes<float> <= count; i += kLanes<float>) store(to + i, load(from + i));
  for (; i < count; ++i) to[i] = from_compute<T>(from[i]);
}

struct FirstLayer {
  const ConvProblem& p;
  BlockEnd end;
  StripLayout planar;             // NCHW: the strip of one channel
  std::int64_t channel_size;      // NCHW: numbers in it
  std::int64_t pitch;             // channels-last: numbers in a row of the strip
  const float* weight;            // [tap][channel][filters], padded
  const float* bias;              // [filters], padded
  const std::int64_t* in_strip;   // [tap][channel] offsets of the first output's window
  const std::int64_t* in_weight;  // [tap][channel] offsets

  void fill_planar(std::int64_t n, std::int64_t first_row, std::int64_t out_rows, float* strip) const {
    const float* image = static_cast<const float*>(p.in) + n * p.in_batch;
    for (std::int64_t c = 0; c < p.channels; ++c)
      fill_strip(planar, image + c * p.in_channel, p.in_row, p.in_height, p.in_width, first_row * p.stride[0],
                 planar.image_rows(out_rows), strip + c * channel_size);
  }

  template <class T>
  void fill_last(std::int64_t n, std::int64_t first_row, std::int64_t out_rows, float* strip) const {
    const T* image = static_cast<const T*>(p.in) + n * p.in_batch;
    const std::int64_t first = first_row * p.stride[0], rows = planar.image_rows(out_rows);
    for (std::int64_t r = 0; r < rows; ++r, strip += pitch) {
      const std::int64_t y = first + planar.top() + r;
      const bool inside = y >= 0 && y < p.in_height;
      // Numbers [low, high) of the row are the image's.
      const std::int64_t shift = planar.left() * p.channels, low = shift < 0 ? -shift : 0;
      std::int64_t high = inside ? p.in_width * p.channels - shift : low;
      if (high > pitch) high = pitch;
      const T* from = image + y * p.in_row + shift;
      for (std::int64_t i = 0; i < low && i < pitch; ++i) strip[i] = 0.0f;
      if (low < high) widen_run(from + low, high - low, strip + low);
      for (std::int64_t i = high > low ? high : low; i < pitch; ++i) strip[i] = 0.0f;
    }
  }

  // One tile: rows are pixels from x on where channels are last, else filters from `filter` on.
  template <int Vectors>
  CVPERF_INLINE void run_tile(const float* strip, float* out, std::int64_t at, std::int64_t filter,
                              std::int64_t count) const {
    constexpr int rows = offset_rows(Vectors), lanes = kLanes<float>;
    const bool last = p.channels_last;
    const std::int64_t step = last ? p.stride[1] * p.channels : 1;
    const float* a[rows];
    Vec<float> sum[rows][Vectors];
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      a[i] = (last ? strip : weight + filter) + i * step;
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v)
        sum[i][v] = last ? load(bias + filter + v * lanes) : broadcast(bias[filter + i]);
    }
    if (last) {
      multiply_offsets(a, in_strip, weight + filter, in_weight, p.depth(), sum);
    } else {
      multiply_offsets(a, in_weight, strip, in_strip, p.depth(), sum);
    }
    end_block(end, sum, static_cast<int>(count < rows ? count : rows), out + at, last ? p.out_column : p.out_channel,
              p.residual ? static_cast<const float*>(p.residual) + at : nullptr);
  }

  // The row of the output that starts at out[at]; `strip` is where its window's first row starts.
  template <int Vectors>
  void run_row(const float* strip, float* out, std::int64_t at) const {
    constexpr std::int64_t rows = offset_rows(Vectors), run = Vectors * kLanes<float>;
    if (p.channels_last) {
      for (std::int64_t x = 0; x < p.out_width; x += rows)
        for (std::int64_t f = 0; f < p.filters; f += run) {
          const std::int64_t filter = f + run <= p.filters ? f : p.filters - run;
          run_tile<Vectors>(strip + x * p.stride[1] * p.channels, out, at + x * p.out_column + filter, filter,
                            p.out_width - x);
        }
      return;
    }
    for (std::int64_t i = 0; i < p.out_width; i += run) {
      const std::int64_t x = i + run <= p.out_width ? i : p.out_width - run;
      for (std::int64_t f = 0; f < p.filters; f += rows)
        run_tile<Vectors>(strip + x, out, at + f * p.out_channel + x, f, p.filters - f);
    }
  }

  // So many rows, the first of which starts at out[at].
  void run_band(const float* strip, float* out, std::int64_t at, std::int64_t rows, int vectors) const {
    const std::int64_t step = p.stride[0] * (p.channels_last ? pitch : planar.row_pitch());
    for (std::int64_t y = 0; y < rows; ++y, strip += step, at += p.out_row) {
      switch (vectors) {
        case 1:
          run_row<1>(strip, out, at);
          break;
        case 2:
          run_row<2>(strip, out, at);
          break;
#if CVPERF_VECTOR_BYTES == 64
        case 3:
          run_row<3>(strip, out, at);
          break;
        case 4:
          run_row<4>(strip, out, at);
          break;
#endif
      }
    }
  }
};

// Offsets of the windows and of the weight, by tap and channel.
void fill_tables(const ConvProblem& p, const StripLayout& planar, std::int64_t channel_size, std::int64_t pitch,
                 std::int64_t filters, std::int64_t* in_strip, std::int64_t* in_weight) {
  for (std::int64_t tap = 0, k = 0; tap < p.taps(); ++tap)
    for (std::int64_t c = 0; c < p.channels; ++c, ++k) {
      const std::int64_t row = p.tap_rows[tap / p.num_tap_columns].offset;
      const std::int64_t column = p.tap_columns[tap % p.num_tap_columns].offset;
      in_strip[k] = p.channels_last ? (row - planar.top()) * pitch + (column - planar.left()) * p.channels + c
                                    : planar.tap_offset(row, column) + c * channel_size;
      in_weight[k] = k * filters;
    }
}

template <class T>
void pack_weight(const ConvProblem& p, std::int64_t filters, float* to) {
  for (std::int64_t tap = 0; tap < p.taps(); ++tap)
    for (std::int64_t c = 0; c < p.channels; ++c, to += filters) {
      const T* from = static_cast<const T*>(p.weight) + p.tap_weight(tap) + c * p.weight_channel;
      for (std::int64_t f = 0; f < filters; ++f) to[f] = f < p.filters ? to_compute(from[f * p.weight_filter]) : 0.0f;
    }
}

template <class T>
void pack_bias(const ConvProblem& p, std::int64_t filters, float* to) {
  for (std::int64_t f = 0; f < filters; ++f)
    to[f] = p.bias && f < p.filters ? to_compute(static_cast<const T*>(p.bias)[f]) : 0.0f;
}

}  // namespace

// False if the problem is not such a layer.
bool run_first_layer(const ConvProblem& p) {
  constexpr std::int64_t lanes = kLanes<float>;
  if (p.dtype == DType::f64 || p.groups != 1 || p.channels > kMostChannels || p.depth() == 0) return false;
  const bool narrows = p.dtype != DType::f32;
  if (narrows && (!p.channels_last || p.residual)) return false;
  const int vectors = pick_vectors(p.channels_last ? p.filters : p.out_width, lanes);
  if (!vectors || p.batch * p.out_height == 0 || p.out_width == 0) return false;

  const std::int64_t threads = p.num_threads < 1 ? 1 : p.num_threads, filters = p.filters + kMostRows;
  const StripLayout planar(p, static_cast<int>(lanes));
  // The last tile of a row reads, and drops, windows of up to kMostRows pixels more.
  const std::int64_t pitch = ((p.out_width + kMostRows) * p.stride[1] + planar.width()) * p.channels;
  const auto strip_size = [&](std::int64_t rows) {
    return p.channels_last ? planar.image_rows(rows) * pitch : p.channels * planar.size(rows);
  };
  std::int64_t rows = 1;
  while (rows < p.out_height && 4 * strip_size(rows + 1) <= kStripBytes) ++rows;
  while (threads > 1 && rows > 2 && p.batch * ((p.out_height + rows - 1) / rows) < 4 * threads) rows = (rows + 1) / 2;
  const std::int64_t bands = (p.out_height + rows - 1) / rows, channel_size = planar.size(rows);

  Buffer<float> weight(p.depth() * filters + kMostRows), bias(filters), strips(threads * strip_size(rows));
  const std::int64_t wide_size = narrows ? rows * p.out_row : 0;
  Buffer<float> wide(threads * wide_size);  // a band of outputs before it is rounded
  Buffer<std::int64_t> in_strip(p.depth()), in_weight(p.depth());
  with_float(p.dtype, [&](auto element) {
    pack_weight<decltype(element)>(p, filters, weight.data());
    pack_bias<decltype(element)>(p, filters, bias.data());
  });
  fill_tables(p, planar, channel_size, pitch, filters, in_strip.data(), in_weight.data());
  BlockEnd end(p.activation);
  end.past_caches = p.channels_last && exceeds_caches(p) && writes_aligned_vectors(p, p.filters);
  const FirstLayer job{
      p, end, planar, channel_size, pitch, weight.data(), bias.data(), in_strip.data(), in_weight.data()};
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const std::int64_t thread = thread_index();
    float* strip = strips.data() + thread * strip_size(rows);
#pragma omp for schedule(static)
    for (std::int64_t i = 0; i < p.batch * bands; ++i) {
      const std::int64_t n = i / bands, first = p.out_height * (i % bands) / bands,
                         last = p.out_height * (i % bands + 1) / bands;
      const std::int64_t at = n * p.out_batch + first * p.out_row;
      if (!p.channels_last) {
        job.fill_planar(n, first, last - first, strip);
        job.run_band(strip, static_cast<float*>(p.out), at, last - first, vectors);
        continue;
      }
      with_float(p.dtype, [&](auto element) {
        using T = decltype(element);
        job.fill_last<T>(n, first, last - first, strip);
        if constexpr (sizeof(T) == sizeof(float)) {
          job.run_band(strip, static_cast<float*>(p.out), at, last - first, vectors);
        } else {
          float* const band = wide.data() + thread * wide_size;
          job.run_band(strip, band, 0, last - first, vectors);
          narrow(band, (last - first) * p.out_row, static_cast<T*>(p.out) + at);
        }
      });
    }
    if (end.past_caches) settle_streams();
  }
  return true;
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
