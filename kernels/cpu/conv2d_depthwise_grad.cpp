// Weight gradient of a depthwise convolution: one dot product of the gradient with the shifted image a tap.
// NCHW: the image's strip (conv2d_strip.hpp) makes every tap a load at a fixed offset, and up to nine taps share
// a load of the gradient. Channels-last: vectors run along channels. Of 3x3 kernels the nine sums stay in registers
// over all pixels of a task; others go tap by tap over the pixels that it sees.
// Sums are kept for segments of the rows fixed by the shape and added in order.
#include "buffer.hpp"
#include "conv2d_problem.hpp"
#include "conv2d_strip.hpp"
#include "thread_index.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

// From sums [segments][taps][padded channels] to the gradient.
template <class T>
void store_gradient(const ConvProblem& p, const Compute<T>* sums, std::int64_t segments, std::int64_t padded,
                    void* out) {
  using C = Compute<T>;
  constexpr int lanes = kLanes<C>;
  for (std::int64_t tap = 0; tap < p.taps(); ++tap) {
    T* const to = static_cast<T*>(out) + p.tap_weight(tap);
    for (std::int64_t c = 0; c < p.groups; c += lanes) {
      Vec<C> sum{};
      for (std::int64_t s = 0; s < segments; ++s) sum += load(sums + (s * p.taps() + tap) * padded + c);
      const int count = p.groups - c < lanes ? static_cast<int>(p.groups - c) : lanes;
      for (int i = 0; i < count; ++i) to[(c + i) * p.weight_group] = from_compute<T>(sum[i]);
    }
  }
}

// --- planar ------------------------------------------------------------------------------------

constexpr int kTaps = 9;  // that share a load of the gradient; as many accumulators as registers allow

template <class T>
void add_rows(const ConvProblem& p, const StripLayout& layout, const std::int64_t* offsets, const Compute<T>* strip,
              const T* grad, std::int64_t rows, Compute<T>* row_copy, Compute<T>* sums) {
  using C = Compute<T>;
  constexpr int lanes = kLanes<C>;
  const std::int64_t width = (p.out_width + lanes - 1) / lanes * lanes;
  for (std::int64_t first = 0; first < p.taps(); first += kTaps) {
    std::int64_t at[kTaps];
    for (int t = 0; t < kTaps; ++t) at[t] = offsets[first + t < p.taps() ? first + t : first];
    Vec<C> sum[kTaps];
#pragma GCC unroll 9
    for (int t = 0; t < kTaps; ++t) sum[t] = Vec<C>{};
    for (std::int64_t y = 0; y < rows; ++y) {
      const T* from = grad + y * p.out_row;
      for (std::int64_t x = 0; x < p.out_width; ++x) row_copy[x] = to_compute(from[x]);
      for (std::int64_t x = p.out_width; x < width; ++x) row_copy[x] = C(0);
      const C* base = strip + y * p.stride[0] * layout.row_pitch();
      for (std::int64_t x = 0; x < width; x += lanes) {
        const Vec<C> g = load(row_copy + x);
#pragma GCC unroll 9
        for (int t = 0; t < kTaps; ++t) sum[t] += g * load(base + at[t] + x);
      }
    }
    for (int t = 0; t < kTaps && first + t < p.taps(); ++t)
      for (int i = 0; i < lanes; ++i) sums[first + t] += sum[t][i];
  }
}

template <class T>
void run_planes(const ConvProblem& p, const T* grad, void* out) {
  using C = Compute<T>;
  const std::int64_t threads = p.num_threads < 1 ? 1 : p.num_threads;
  const StripLayout layout(p, kLanes<C>);
  std::int64_t rows = layout.rows_for(24 * 1024 / static_cast<std::int64_t>(sizeof(C)));
  if (rows > p.out_height) rows = p.out_height;
  const std::int64_t strips = (p.out_height + rows - 1) / rows;
  const std::int64_t strip_size = layout.size(rows) + 64 / static_cast<std::int64_t>(sizeof(C));
  const std::int64_t row_size = p.out_width + 64;
  Buffer<C> strip(threads * strip_size), row_copy(threads * row_size), sums(p.groups * p.taps());
  Buffer<std::int64_t> offsets(p.taps());
  for (std::int64_t tap = 0; tap < p.taps(); ++tap)
    offsets[tap] =
        layout.tap_offset(p.tap_rows[tap / p.num_tap_columns].offset, p.tap_columns[tap % p.num_tap_columns].offset);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1)
  for (std::int64_t c = 0; c < p.groups; ++c) {
    C* mine = strip.data() + thread_index() * strip_size;
    for (std::int64_t tap = 0; tap < p.taps(); ++tap) sums[c * p.taps() + tap] = C(0);
    for (std::int64_t i = 0; i < p.batch * strips; ++i) {
      const std::int64_t n = i / strips;
      const std::int64_t begin = p.out_height * (i % strips) / strips, end = p.out_height * (i % strips + 1) / strips;
      fill_strip(layout, static_cast<const T*>(p.in) + n * p.in_batch + c * p.in_channel, p.in_row, p.in_height,
                 p.in_width, begin * p.stride[0], layout.image_rows(end - begin), mine);
      add_rows(p, layout, offsets.data(), mine, grad + n * p.out_batch + c * p.out_channel + begin * p.out_row,
               end - begin, row_copy.data() + thread_index() * row_size, sums.data() + c * p.taps());
    }
  }
  for (std::int64_t c = 0; c < p.groups; ++c)
    for (std::int64_t tap = 0; tap < p.taps(); ++tap)
      static_cast<T*>(out)[c * p.weight_group + p.tap_weight(tap)] = from_compute<T>(sums[c * p.taps() + tap]);
}

// --- channels-last -----------------------------------------------------------------------------

// Adds one row of the output to sums [taps][padded channels], for `Vectors` vectors of channels from c on.
template <class T, int Vectors>
void add_row(const ConvProblem& p, const T* image, const T* grad, std::int64_t y, std::int64_t c, Compute<T>* sums,
             std::int64_t padded) {
  using C = Compute<T>;
  constexpr int lanes = kLanes<C>;
  for (std::int64_t r = 0; r < p.num_tap_rows; ++r) {
    const std::int64_t iy = y * p.stride[0] + p.tap_rows[r].offset;
    if (iy < 0 || iy >= p.in_height) continue;
    for (std::int64_t t = 0; t < p.num_tap_columns; ++t) {
      std::int64_t low = 0, high = p.out_width;
      while (low < high && low * p.stride[1] + p.tap_columns[t].offset < 0) ++low;
      while (high > low && (high - 1) * p.stride[1] + p.tap_columns[t].offset >= p.in_width) --high;
      C* to = sums + (r * p.num_tap_columns + t) * padded + c;
      Vec<C> sum[Vectors];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sum[v] = load(to + v * lanes);
      for (std::int64_t x = low; x < high; ++x) {
        const T* a = image + iy * p.in_row + (x * p.stride[1] + p.tap_columns[t].offset) * p.in_column + c;
        const T* g = grad + x * p.out_column + c;
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) sum[v] += load(a + v * lanes) * load(g + v * lanes);
      }
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) store(to + v * lanes, sum[v]);
    }
  }
}

template <class T>
void add_row_tail(const ConvProblem& p, const T* image, const T* grad, std::int64_t y, std::int64_t c, Compute<T>* sums,
                  std::int64_t padded) {
  for (std::int64_t tap = 0; tap < p.taps(); ++tap) {
    const std::int64_t iy = y * p.stride[0] + p.tap_rows[tap / p.num_tap_columns].offset;
    if (iy < 0 || iy >= p.in_height) continue;
    for (std::int64_t x = 0; x < p.out_width; ++x) {
      const std::int64_t ix = x * p.stride[1] + p.tap_columns[tap % p.num_tap_columns].offset;
      if (ix < 0 || ix >= p.in_width) continue;
      for (std::int64_t i = c; i < p.groups; ++i)
        sums[tap * padded + i] +=
            to_compute(image[iy * p.in_row + ix * p.in_column + i]) * to_compute(grad[x * p.out_column + i]);
    }
  }
}

template <class T>
void run_taps(const ConvProblem& p, const T* grad, void* out) {
  using C = Compute<T>;
  constexpr int lanes = kLanes<C>;
  const std::int64_t threads = p.num_threads < 1 ? 1 : p.num_threads, rows = p.batch * p.out_height;
  const std::int64_t segments = rows < 16 ? rows : 16, padded = (p.groups + 4 * lanes - 1) / lanes * lanes;
  Buffer<C> sums(segments * p.taps() * padded);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1)
  for (std::int64_t segment = 0; segment < segments; ++segment) {
    C* mine = sums.data() + segment * p.taps() * padded;
    for (std::int64_t i = 0; i < p.taps() * padded; ++i) mine[i] = C(0);
    for (std::int64_t row = rows * segment / segments; row < rows * (segment + 1) / segments; ++row) {
      const std::int64_t n = row / p.out_height, y = row % p.out_height;
      const T* image = static_cast<const T*>(p.in) + n * p.in_batch;
      const T* g = grad + n * p.out_batch + y * p.out_row;
      std::int64_t c = 0;
      for (; c + 4 * lanes <= p.groups; c += 4 * lanes) add_row<T, 4>(p, image, g, y, c, mine, padded);
      for (; c + lanes <= p.groups; c += lanes) add_row<T, 1>(p, image, g, y, c, mine, padded);
      if (c < p.groups) add_row_tail(p, image, g, y, c, mine, padded);
    }
  }
  store_gradient<T>(p, sums.data(), segments, padded, out);
}

// --- channels-last, 3x3 ------------------------------------------------------------------------

#if CVPERF_VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int kVectors = 2;  // of channels: 18 sums, 2 of the gradient, the image from memory
#else
constexpr int kVectors = 1;
#endif

// Of one row of the output: the rows of the image that it reads, from a task's first channel on.
template <class T>
struct Rows3 {
  const T* image[3];  // null outside the image
  const T* grad;
};

// Columns of the output that see columns of the image by every tap: [low, high).
struct Inner {
  explicit Inner(const ConvProblem& p) {
    for (int t = 0; t < 3; ++t) {
      const std::int64_t offset = p.tap_columns[t].offset, step = p.stride[1];
      const std::int64_t first = offset < 0 ? (-offset + step - 1) / step : 0;
      const std::int64_t room = p.in_width - 1 - offset, end = room < 0 ? 0 : room / step + 1;
      low = first > low ? first : low;
      high = end < high ? end : high;
    }
    if (low > high) low = high;
  }
  std::int64_t low = 0, high = INT64_MAX;
};

// sum[9][V] += the products of columns [begin, end) of one row of the output. kInner: every tap sees the image;
// kWhole: there are V vectors of channels, else `count` channels of one.
template <bool kInner, bool kWhole, class T, int V>
CVPERF_INLINE void add_columns(const ConvProblem& p, const Rows3<T>& rows, std::int64_t begin, std::int64_t end,
                               int count, Vec<Compute<T>> (&sum)[9][V]) {
  constexpr int lanes = kLanes<Compute<T>>;
  const auto read = [count](const T* from) { return kWhole ? load(from) : load_partial(from, count); };
  for (std::int64_t x = begin; x < end; ++x) {
    Vec<Compute<T>> g[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) g[v] = read(rows.grad + x * p.out_column + v * lanes);
#pragma GCC unroll 3
    for (int t = 0; t < 3; ++t) {
      const std::int64_t column = x * p.stride[1] + p.tap_columns[t].offset;
      if (!kInner && (column < 0 || column >= p.in_width)) continue;
#pragma GCC unroll 3
      for (int r = 0; r < 3; ++r) {
        if (!kInner && !rows.image[r]) continue;
        const T* const from = rows.image[r] + column * p.in_column;
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sum[r * 3 + t][v] += read(from + v * lanes) * g[v];
      }
    }
  }
}

// The sums [9][padded] of V vectors of channels from c on, over rows [begin, end) of all images together.
template <bool kWhole, class T, int V>
void sum_rows(const ConvProblem& p, const T* grad, std::int64_t c, std::int64_t begin, std::int64_t end,
              Compute<T>* sums, std::int64_t padded) {
  using C = Compute<T>;
  const int count = kWhole ? 0 : static_cast<int>(p.groups - c);
  const Inner inner(p);
  const std::int64_t high = inner.high < p.out_width ? inner.high : p.out_width;
  const std::int64_t low = inner.low < high ? inner.low : high;
  Vec<C> sum[9][V] = {};
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int64_t n = row / p.out_height, y = row % p.out_height;
    Rows3<T> rows;
    rows.grad = grad + n * p.out_batch + y * p.out_row + c;
    bool all = true;
    for (int r = 0; r < 3; ++r) {
      const std::int64_t iy = y * p.stride[0] + p.tap_rows[r].offset;
      const bool inside = iy >= 0 && iy < p.in_height;
      rows.image[r] = inside ? static_cast<const T*>(p.in) + n * p.in_batch + iy * p.in_row + c : nullptr;
      all &= inside;
    }
    if (all) {
      add_columns<false, kWhole>(p, rows, 0, low, count, sum);
      add_columns<true, kWhole>(p, rows, low, high, count, sum);
      add_columns<false, kWhole>(p, rows, high, p.out_width, count, sum);
    } else {
      add_columns<false, kWhole>(p, rows, 0, p.out_width, count, sum);
    }
  }
#pragma GCC unroll 9
  for (int tap = 0; tap < 9; ++tap)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) store(sums + tap * padded + c + v * kLanes<C>, sum[tap][v]);
}

// A task is some channels of a segment of the rows; segments only where channels alone make few tasks.
template <class T>
void run_3x3(const ConvProblem& p, const T* grad, void* out) {
  using C = Compute<T>;
  constexpr std::int64_t lanes = kLanes<C>, width = kVectors * lanes, wanted = 16;
  const std::int64_t threads = p.num_threads < 1 ? 1 : p.num_threads, rows = p.batch * p.out_height;
  const std::int64_t blocks = (p.groups + width - 1) / width, padded = blocks * width;
  std::int64_t segments = blocks < wanted ? (wanted + blocks - 1) / blocks : 1;
  if (segments > rows) segments = rows;
  Buffer<C> sums(segments * 9 * padded);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1)
  for (std::int64_t task = 0; task < segments * blocks; ++task) {
    const std::int64_t segment = task / blocks, c = task % blocks * width;
    const std::int64_t begin = rows * segment / segments, end = rows * (segment + 1) / segments;
    C* const mine = sums.data() + segment * 9 * padded;
    if (c + width <= p.groups) {
      sum_rows<true, T, kVectors>(p, grad, c, begin, end, mine, padded);
      continue;
    }
    std::int64_t at = c;
    for (; at + lanes <= p.groups; at += lanes) sum_rows<true, T, 1>(p, grad, at, begin, end, mine, padded);
    if (at < p.groups) sum_rows<false, T, 1>(p, grad, at, begin, end, mine, padded);
  }
  store_gradient<T>(p, sums.data(), segments, padded, out);
}

template <class T>
void run(const ConvProblem& p, const void* grad, void* out) {
  if (p.channels_last) {
    if (p.num_tap_rows == 3 && p.num_tap_columns == 3)
      run_3x3(p, static_cast<const T*>(grad), out);
    else
      run_taps(p, static_cast<const T*>(grad), out);
  } else {
    run_planes(p, static_cast<const T*>(grad), out);
  }
}

}  // namespace

// `problem` is the forward one. False if it is not one channel in, one filter out a group.
bool depthwise_weight_grad(const ConvProblem& p, const void* grad, void* out) {
  if (p.channels != 1 || p.filters != 1 || p.groups == 1 || p.taps() == 0) return false;
  if (p.batch * p.out_height * p.out_width == 0) return false;
  with_floating(p.dtype, [&](auto element) { return run<decltype(element)>(p, grad, out); });
  return true;
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
