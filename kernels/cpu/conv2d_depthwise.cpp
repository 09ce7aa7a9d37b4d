// Depthwise convolution: one channel in, one filter out a group, so there is no matrix product to feed and the
// kernel lives on loads. Channels-last: vectors run along channels, four pixels at a time share the tap's weights;
// the usual kernels in float32 have register blocks of their own (conv2d_depthwise_blocks.cpp).
// NCHW: vectors run along a row of pixels. A strip of the plane, as many rows as fit L1, is copied with its
// padding (and, for a stride, with the columns of each residue side by side), after which every tap of every
// output vector is one unaligned load at a fixed offset: no edges, and any kernel, stride or dilation alike.
#include "buffer.hpp"
#include "conv2d_epilogue.hpp"
#include "conv2d_problem.hpp"
#include "conv2d_strip.hpp"
#include "thread_index.hpp"

namespace cvperf {
namespace CVPERF_ISA {

bool run_depthwise_blocks(const ConvProblem& problem);  // conv2d_depthwise_blocks.cpp

namespace {

// --- channels-last -----------------------------------------------------------------------------

constexpr int kPixels = 4;

template <class T>
struct DepthwiseLast {
  using C = Compute<T>;
  const ConvProblem& p;
  const C* weight;  // [taps][channels], padded
  const C* bias;    // [channels], padded, or null
  const T* zeros;   // [channels]

  // Channels [c, c + Vectors * lanes) of up to four pixels. Tap (r, t) of pixel i is at
  // Table ? table[tap * kPixels + i] : image + r-th row + t-th column + i * step.
  template <int Vectors, bool Table>
  CVPERF_INLINE void sum(const T* const* table, const T* image, std::int64_t c,
                         Vec<C> (&sums)[kPixels][Vectors]) const {
    constexpr int lanes = kLanes<C>;
    const std::int64_t step = p.stride[1] * p.in_column;
#pragma GCC unroll 4
    for (int i = 0; i < kPixels; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sums[i][v] = Vec<C>{};
    std::int64_t tap = 0;
    for (std::int64_t r = 0; r < p.num_tap_rows; ++r) {
      for (std::int64_t t = 0; t < p.num_tap_columns; ++t, ++tap) {
        const T* from =
            Table ? nullptr : image + p.tap_rows[r].offset * p.in_row + p.tap_columns[t].offset * p.in_column + c;
        Vec<C> w[Vectors];
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) w[v] = load(weight + tap * p.groups + c + v * lanes);
#pragma GCC unroll 4
        for (int i = 0; i < kPixels; ++i) {
          const T* pixel = Table ? table[tap * kPixels + i] + c : from + i * step;
#pragma GCC unroll 4
          for (int v = 0; v < Vectors; ++v) sums[i][v] += load(pixel + v * lanes) * w[v];
        }
      }
    }
  }

  template <int Vectors, bool Table>
  void run_channels(const T* const* table, const T* image, std::int64_t at, int pixels, std::int64_t c) const {
    constexpr int lanes = kLanes<C>;
    Vec<C> sums[kPixels][Vectors];
    sum<Vectors, Table>(table, image, c, sums);
    T* out = static_cast<T*>(p.out) + at + c;
    const T* residual = p.residual ? static_cast<const T*>(p.residual) + at + c : nullptr;
    if (bias) {
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) {
        const Vec<C> b = load(bias + c + v * lanes);
#pragma GCC unroll 4
        for (int i = 0; i < kPixels; ++i) sums[i][v] += b;
      }
    }
    if (!residual && p.activation == Activation::none) {
#pragma GCC unroll 4
      for (int i = 0; i < kPixels; ++i)
        if (i < pixels)
#pragma GCC unroll 4
          for (int v = 0; v < Vectors; ++v) store(out + i * p.out_column + v * lanes, sums[i][v]);
      return;
    }
    C kept[kPixels * Vectors * lanes];
#pragma GCC unroll 4
    for (int i = 0; i < kPixels; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) store(kept + (i * Vectors + v) * lanes, sums[i][v]);
    for (int i = 0; i < pixels; ++i)
      finish_run(out + i * p.out_column, kept + i * Vectors * lanes, Vectors * lanes, static_cast<const C*>(nullptr), 0,
                 residual ? residual + i * p.out_column : nullptr, p.activation);
  }

  // Fewer channels than a vector has lanes.
  void run_few(const T* const* table, std::int64_t at, int pixels) const {
    C kept[kLanes<C>];
    for (int i = 0; i < pixels; ++i) {
      for (std::int64_t c = 0; c < kLanes<C>; ++c) kept[c] = C(0);
      for (std::int64_t c = 0; c < p.groups; ++c)
        for (std::int64_t tap = 0; tap < p.taps(); ++tap)
          kept[c] += to_compute(table[tap * kPixels + i][c]) * weight[tap * p.groups + c];
      const std::int64_t where = at + i * p.out_column;
      finish_run(static_cast<T*>(p.out) + where, kept, p.groups, bias, 1,
                 p.residual ? static_cast<const T*>(p.residual) + where : nullptr, p.activation);
    }
  }

  template <bool Table>
  void run_pixels(const T* const* table, const T* image, std::int64_t at, int pixels) const {
    constexpr int lanes = kLanes<C>;
    std::int64_t c = 0;
    for (; c + 2 * lanes <= p.groups; c += 2 * lanes) run_channels<2, Table>(table, image, at, pixels, c);
    for (; c + lanes <= p.groups; c += lanes) run_channels<1, Table>(table, image, at, pixels, c);
    // The last vector overlaps the one before it: it stores the same numbers there again.
    if (c < p.groups) run_channels<1, Table>(table, image, at, pixels, p.groups - lanes);
  }

  void run_row(std::int64_t n, std::int64_t y, const T** table) const {
    const T* image = static_cast<const T*>(p.in) + n * p.in_batch;
    bool rows_inside = p.taps() > 0;
    for (std::int64_t r = 0; r < p.num_tap_rows; ++r) {
      const std::int64_t iy = y * p.stride[0] + p.tap_rows[r].offset;
      rows_inside &= iy >= 0 && iy < p.in_height;
    }
    const std::int64_t nearest = p.taps() ? p.tap_columns[0].offset : 0;
    const std::int64_t farthest = p.taps() ? p.tap_columns[p.num_tap_columns - 1].offset : 0;
    for (std::int64_t x = 0; x < p.out_width; x += kPixels) {
      const int pixels = static_cast<int>(p.out_width - x < kPixels ? p.out_width - x : kPixels);
      const std::int64_t at = n * p.out_batch + y * p.out_row + x * p.out_column;
      const std::int64_t left = x * p.stride[1], right = (x + kPixels - 1) * p.stride[1];
      if (rows_inside && p.groups >= kLanes<C> && left + nearest >= 0 && right + farthest < p.in_width) {
        run_pixels<false>(nullptr, image + y * p.stride[0] * p.in_row + left * p.in_column, at, pixels);
        continue;
      }
      std::int64_t tap = 0;
      for (std::int64_t r = 0; r < p.num_tap_rows; ++r) {
        const std::int64_t iy = y * p.stride[0] + p.tap_rows[r].offset;
        for (std::int64_t t = 0; t < p.num_tap_columns; ++t, ++tap)
          for (int i = 0; i < kPixels; ++i) {
            const std::int64_t ix = (x + i) * p.stride[1] + p.tap_columns[t].offset;
            const bool inside = i < pixels && iy >= 0 && iy < p.in_height && ix >= 0 && ix < p.in_width;
            table[tap * kPixels + i] = inside ? image + iy * p.in_row + ix * p.in_column : zeros;
          }
      }
      if (p.groups < kLanes<C>) {
        run_few(table, at, pixels);
      } else {
        run_pixels<true>(table, nullptr, at, pixels);
      }
    }
  }
};

template <class T>
void run_last(const ConvProblem& p) {
  using C = Compute<T>;
  const std::int64_t threads = p.num_threads < 1 ? 1 : p.num_threads, padded = p.groups + kLanes<C>;
  Buffer<C> weight(p.taps() * p.groups + kLanes<C>);
  Buffer<C> bias(padded);
  Buffer<T> zeros(padded);
  Buffer<const T*> table(threads * p.taps() * kPixels + 1);
  const T* from = static_cast<const T*>(p.weight);
  for (std::int64_t tap = 0; tap < p.taps(); ++tap) {
    const std::int64_t at = p.tap_weight(tap);
    for (std::int64_t c = 0; c < p.groups; ++c) weight[tap * p.groups + c] = to_compute(from[c * p.weight_group + at]);
  }
  for (std::int64_t c = 0; c < padded; ++c) {
    bias[c] = p.bias && c < p.groups ? to_compute(static_cast<const T*>(p.bias)[c]) : C(0);
    zeros[c] = T{};
  }
  const DepthwiseLast<T> job{p, weight.data(), p.bias ? bias.data() : nullptr, zeros.data()};
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (std::int64_t row = 0; row < p.batch * p.out_height; ++row)
    job.run_row(row / p.out_height, row % p.out_height, table.data() + thread_index() * p.taps() * kPixels);
}

// --- planar ------------------------------------------------------------------------------------

constexpr int kStreams = 8;  // output vectors computed together, to hide the latency of FMA

template <class T>
struct DepthwisePlanar {
  using C = Compute<T>;
  const ConvProblem& p;
  const StripLayout& layout;
  const std::int64_t* offsets;  // [taps] in the strip

  // Output vectors `streams` of a strip: from[s] is where the first tap of vector s would be at offset 0.
  CVPERF_INLINE void sum(const C* const* from, const C* weight, Vec<C> (&sums)[kStreams]) const {
    const C* base[kStreams];
#pragma GCC unroll 8
    for (int s = 0; s < kStreams; ++s) sums[s] = Vec<C>{}, base[s] = from[s];
    for (std::int64_t tap = 0; tap < p.taps(); ++tap) {
      const Vec<C> w = broadcast(weight[tap]);
      const std::int64_t offset = offsets[tap];
#pragma GCC unroll 8
      for (int s = 0; s < kStreams; ++s) sums[s] += load(base[s] + offset) * w;
    }
  }

  // Output rows [begin, end) of one plane. `strip` holds the image rows that they read.
  void run_rows(const C* strip, const C* weight, std::int64_t n, std::int64_t c, std::int64_t begin,
                std::int64_t end) const {
    constexpr int lanes = kLanes<C>;
    const C bias = p.bias ? to_compute(static_cast<const T*>(p.bias)[c]) : C(0);
    T* out = static_cast<T*>(p.out) + n * p.out_batch + c * p.out_channel;
    const T* residual = p.residual ? static_cast<const T*>(p.residual) + n * p.out_batch + c * p.out_channel : nullptr;
    const bool plain = !residual && p.activation == Activation::none && p.out_column == 1;
    const C* from[kStreams];
    std::int64_t where[kStreams], column[kStreams], row[kStreams];
    std::int64_t y = begin, x = 0;
    while (y < end) {
      int filled = 0;
      for (; filled < kStreams && y < end; ++filled) {
        from[filled] = strip + (y - begin) * p.stride[0] * layout.row_pitch() + x;
        where[filled] = y * p.out_row + x * p.out_column;
        column[filled] = x;
        row[filled] = y;
        x += lanes;
        if (x >= p.out_width) x = 0, ++y;
      }
      for (int s = filled; s < kStreams; ++s) from[s] = from[0];
      Vec<C> sums[kStreams];
      sum(from, weight, sums);
      if (plain) {
        for (int s = 0; s < filled; ++s) {
          const std::int64_t left = p.out_width - column[s];
          // A vector may write past its row: the next row, which comes later, puts its own numbers there.
          if (left >= lanes || (row[s] + 1 < end && p.out_row == p.out_width && p.out_width >= lanes - left)) {
            store(out + where[s], sums[s] + bias);
          } else {
            store_partial(out + where[s], sums[s] + bias, static_cast<int>(left));
          }
        }
        continue;
      }
      for (int s = 0; s < filled; ++s) {
        const std::int64_t left = p.out_width - column[s] < lanes ? p.out_width - column[s] : lanes;
        C kept[lanes];
        store(kept, sums[s]);
        if (p.out_column == 1) {
          finish_run(out + where[s], kept, left, &bias, 0, residual ? residual + where[s] : nullptr, p.activation);
        } else {
          finish_scattered(out + where[s], p.out_column, kept, left);
        }
      }
    }
  }
};

template <class T>
void run_planes(const ConvProblem& p) {
  using C = Compute<T>;
  const std::int64_t threads = p.num_threads < 1 ? 1 : p.num_threads, planes = p.batch * p.groups;
  const StripLayout layout(p, kLanes<C>);
  std::int64_t rows = layout.rows_for(24 * 1024 / static_cast<std::int64_t>(sizeof(C)));
  if (rows > p.out_height) rows = p.out_height;
  const std::int64_t strips = (p.out_height + rows - 1) / rows;
  const std::int64_t strip_size = layout.size(rows) + 64 / static_cast<std::int64_t>(sizeof(C));
  Buffer<C> strip(threads * strip_size);
  Buffer<C> weight(p.groups * p.taps());
  Buffer<std::int64_t> offsets(p.taps());
  for (std::int64_t tap = 0; tap < p.taps(); ++tap) {
    offsets[tap] =
        layout.tap_offset(p.tap_rows[tap / p.num_tap_columns].offset, p.tap_columns[tap % p.num_tap_columns].offset);
    const T* from = static_cast<const T*>(p.weight) + p.tap_weight(tap);
    for (std::int64_t c = 0; c < p.groups; ++c) weight[c * p.taps() + tap] = to_compute(from[c * p.weight_group]);
  }
  const DepthwisePlanar<T> job{p, layout, offsets.data()};
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4) if (threads > 1)
  for (std::int64_t task = 0; task < planes * strips; ++task) {
    const std::int64_t plane = task / strips, n = plane / p.groups, c = plane % p.groups;
    const std::int64_t begin = p.out_height * (task % strips) / strips,
                       end = p.out_height * (task % strips + 1) / strips;
    C* mine = strip.data() + thread_index() * strip_size;
    fill_strip(layout, static_cast<const T*>(p.in) + n * p.in_batch + c * p.in_channel, p.in_row, p.in_height,
               p.in_width, begin * p.stride[0], layout.image_rows(end - begin), mine);
    job.run_rows(mine, weight.data() + c * p.taps(), n, c, begin, end);
  }
}

template <class T>
void run(const ConvProblem& p) {
  if (p.channels_last) {
    run_last<T>(p);
  } else {
    run_planes<T>(p);
  }
}

}  // namespace

bool run_depthwise(const ConvProblem& p) {
  if (p.channels != 1 || p.filters != 1 || p.groups == 1 || p.taps() == 0) return false;
  if (p.batch * p.out_height * p.out_width == 0) return true;
  if (run_depthwise_blocks(p)) return true;
  with_floating(p.dtype, [&](auto element) { return run<decltype(element)>(p); });
  return true;
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
