// RoI max pooling. Bins are made once a box, with the arithmetic of the boxes' own type so that rounding
// falls as in torchvision; coordinates are clamped before they become integers, and a NaN makes the box empty.
//
// Channels last: the running maximum and its position stay in registers for a vector of channels.
// NCHW: a row of bins is first reduced over its map rows with pixels in the lanes, then over columns. The
// position that wins is the first in row-major order, whichever way the maximum was found.
//
// Backward: a task is a block of channels of one image and adds its boxes in order, so no atomics and the
// same bits for any number of threads.
#include "roi_pool.hpp"

#include <cfloat>

#include "buffer.hpp"
#include "simd.hpp"
#include "thread_index.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

struct Range {
  std::int64_t begin, end;
};

// std::round of torchvision, on a value that is first clamped to its int.
std::int64_t to_pixel(double x) {
  const double limit = 2147483647.0;
  return static_cast<std::int64_t>(__builtin_round(x < -limit ? -limit : x > limit ? limit : x));
}

std::int64_t clamp(std::int64_t x, std::int64_t high) { return x < 0 ? 0 : x > high ? high : x; }

template <class C>
void make_bins(C first, C last, C scale, std::int64_t pooled, std::int64_t size, Range* bins) {
  const C low = first * scale, high = last * scale;
  const bool is_nan = low != low || high != high;
  const std::int64_t start = is_nan ? 0 : to_pixel(low), end = is_nan ? 0 : to_pixel(high);
  const std::int64_t extent = end - start + 1 > 1 ? end - start + 1 : 1;
  const C bin = static_cast<C>(extent) / static_cast<C>(pooled);
  for (std::int64_t p = 0; p < pooled; ++p) {
    const C a = static_cast<C>(p) * bin, b = static_cast<C>(p + 1) * bin;  // >= 0 and far below int64's limit
    const std::int64_t floor_a = static_cast<std::int64_t>(a);
    const std::int64_t floor_b = static_cast<std::int64_t>(b), ceil_b = floor_b + (static_cast<C>(floor_b) < b);
    bins[p] = is_nan ? Range{0, 0} : Range{clamp(floor_a + start, size), clamp(ceil_b + start, size)};
  }
}

// --- forward -----------------------------------------------------------------------------------

template <class C>
struct IndexOf {
  using type = std::int32_t;
};
template <>
struct IndexOf<double> {
  using type = std::int64_t;
};
template <class C>
using Index = typename IndexOf<C>::type;  // as wide as the value, so that one mask serves both

CVPERF_INLINE void store_index(std::int32_t* out, Vec<std::int32_t> v) { __builtin_memcpy(out, &v, sizeof v); }
CVPERF_INLINE void store_index(std::int32_t* out, Vec<std::int64_t> v) {
  for (int i = 0; i < kLanes<std::int64_t>; ++i) out[i] = static_cast<std::int32_t>(v[i]);
}

template <class C>
CVPERF_INLINE C lowest(bool empty) {
  return empty ? C(0) : C(-FLT_MAX);  // torchvision's start value, for doubles too
}

template <class T, class C = Compute<T>>
CVPERF_INLINE void pool_bin(const T* image, std::int64_t channels, std::int64_t width, Range y, Range x, int lanes,
                            T* out, std::int32_t* argmax) {
  constexpr int kL = kLanes<C>;
  const bool full = lanes == kL;
  Vec<C> best = broadcast(lowest<C>(y.begin >= y.end || x.begin >= x.end));
  Vec<Index<C>> where = broadcast(Index<C>(-1));
  for (std::int64_t h = y.begin; h < y.end; ++h) {
    for (std::int64_t w = x.begin; w < x.end; ++w) {
      const T* pixel = image + (h * width + w) * channels;
      const Vec<C> value = full ? load(pixel) : load_partial(pixel, lanes);
      const auto larger = value > best;
      best = larger ? value : best;
      where = larger ? broadcast(Index<C>(h * width + w)) : where;
    }
  }
  if (full) {
    store(out, best);
    store_index(argmax, where);
  } else {
    store_partial(out, best, lanes);
    for (int i = 0; i < lanes; ++i) argmax[i] = static_cast<std::int32_t>(where[i]);
  }
}

template <class T, class C = Compute<T>>
void pool_box_channels_last(const RoiPoolArgs& args, const T* image, const Range* y, const Range* x, T* out,
                            std::int32_t* argmax) {
  constexpr int kL = kLanes<C>;
  for (std::int64_t i = 0; i < args.pooled_height; ++i) {
    for (std::int64_t j = 0; j < args.pooled_width; ++j, out += args.channels, argmax += args.channels) {
      std::int64_t c = 0;
      for (; c + kL <= args.channels; c += kL) {
        pool_bin(image + c, args.channels, args.width, y[i], x[j], kL, out + c, argmax + c);
      }
      if (c < args.channels) {
        const int lanes = static_cast<int>(args.channels - c);
        pool_bin(image + c, args.channels, args.width, y[i], x[j], lanes, out + c, argmax + c);
      }
    }
  }
}

// The largest of each column of a row of bins, with the first row that has it, for columns x.
template <class T, class C = Compute<T>>
CVPERF_INLINE void reduce_rows(const T* plane, std::int64_t width, Range y, Range x, C* best_of, Index<C>* row_of) {
  constexpr int kL = kLanes<C>;
  std::int64_t w = x.begin;
  for (; w + kL <= x.end; w += kL) {
    Vec<C> best = broadcast(lowest<C>(false));
    Vec<Index<C>> row = broadcast(Index<C>(-1));
    for (std::int64_t h = y.begin; h < y.end; ++h) {
      const Vec<C> value = load(plane + h * width + w);
      const auto larger = value > best;
      best = larger ? value : best;
      row = larger ? broadcast(Index<C>(h)) : row;
    }
    store(best_of + w, best);
    __builtin_memcpy(row_of + w, &row, sizeof row);
  }
  for (; w < x.end; ++w) {
    C best = lowest<C>(false);
    Index<C> row = -1;
    for (std::int64_t h = y.begin; h < y.end; ++h) {
      const C value = to_compute(plane[h * width + w]);
      if (value > best) {
        best = value;
        row = static_cast<Index<C>>(h);
      }
    }
    best_of[w] = best;
    row_of[w] = row;
  }
}

template <class T, class C = Compute<T>>
void pool_box_plane(const RoiPoolArgs& args, const T* plane, const Range* y, const Range* x, C* best_of,
                    Index<C>* row_of, T* out, std::int32_t* argmax) {
  const Range columns{x[0].begin, x[args.pooled_width - 1].end};
  for (std::int64_t i = 0; i < args.pooled_height; ++i) {
    reduce_rows(plane, args.width, y[i], columns, best_of, row_of);
    for (std::int64_t j = 0; j < args.pooled_width; ++j) {
      const bool empty = y[i].begin >= y[i].end || x[j].begin >= x[j].end;
      C best = lowest<C>(empty);
      std::int64_t row = -1, column = -1;
      if (!empty) {
        for (std::int64_t w = x[j].begin; w < x[j].end; ++w) {
          const bool earlier = best_of[w] == best && row_of[w] < row;
          if (best_of[w] > best || earlier) {
            best = best_of[w];
            row = row_of[w];
            column = w;
          }
        }
      }
      *out++ = from_compute<T>(best);
      *argmax++ = row < 0 ? -1 : static_cast<std::int32_t>(row * args.width + column);
    }
  }
}

template <class T, class C = Compute<T>>
void forward(const RoiPoolArgs& args) {
  const std::int64_t plane = args.height * args.width, bins = args.pooled_height * args.pooled_width;
  if (args.count == 0 || args.channels == 0) return;
  Buffer<Range> ranges(args.count * (args.pooled_height + args.pooled_width));
  const C* boxes = static_cast<const C*>(args.boxes);
  const C scale = static_cast<C>(args.spatial_scale);
  for (std::int64_t k = 0; k < args.count; ++k) {
    Range* y = ranges.data() + k * (args.pooled_height + args.pooled_width);
    make_bins(boxes[5 * k + 2], boxes[5 * k + 4], scale, args.pooled_height, args.height, y);
    make_bins(boxes[5 * k + 1], boxes[5 * k + 3], scale, args.pooled_width, args.width, y + args.pooled_height);
    // A coordinate that is not a number empties the box, whichever axis it is on.
    bool is_nan = false;
    for (int i = 1; i < 5; ++i) is_nan |= boxes[5 * k + i] * scale != boxes[5 * k + i] * scale;
    for (std::int64_t p = 0; is_nan && p < args.pooled_height + args.pooled_width; ++p) y[p] = Range{0, 0};
  }
  Buffer<C> best(args.channels_last ? 0 : args.num_threads * args.width);
  Buffer<Index<C>> row(args.channels_last ? 0 : args.num_threads * args.width);
  // NCHW visits all boxes of a block of planes before the next, which then stay in cache.
  constexpr std::int64_t kPlanes = 8;
  const std::int64_t blocks = args.channels_last ? 1 : (args.channels + kPlanes - 1) / kPlanes;
  const T* input = static_cast<const T*>(args.input);
#pragma omp parallel for num_threads(args.num_threads) if (args.num_threads > 1) schedule(dynamic, 8)
  for (std::int64_t task = 0; task < blocks * args.count; ++task) {
    const std::int64_t k = task % args.count, block = task / args.count;
    const Range *y = ranges.data() + k * (args.pooled_height + args.pooled_width), *x = y + args.pooled_height;
    const T* image = input + static_cast<std::int64_t>(boxes[5 * k]) * args.channels * plane;
    T* out = static_cast<T*>(args.output) + k * args.channels * bins;
    std::int32_t* argmax = args.argmax + k * args.channels * bins;
    if (args.channels_last) {
      pool_box_channels_last(args, image, y, x, out, argmax);
      continue;
    }
    const std::int64_t end = block * kPlanes + kPlanes < args.channels ? block * kPlanes + kPlanes : args.channels;
    for (std::int64_t c = block * kPlanes; c < end; ++c) {
      pool_box_plane(args, image + c * plane, y, x, best.data() + thread_index() * args.width,
                     row.data() + thread_index() * args.width, out + c * bins, argmax + c * bins);
    }
  }
}

// --- backward ----------------------------------------------------------------------------------

template <class T, class C = Compute<T>>
void backward(const RoiPoolBackwardArgs& args) {
  constexpr bool is_half = sizeof(T) == 2;
  constexpr std::int64_t kBlock = 16;  // channels of a task
  const std::int64_t plane = args.height * args.width, bins = args.pooled_height * args.pooled_width;
  if (args.images == 0 || args.channels == 0 || plane == 0) return;
  const C* boxes = static_cast<const C*>(args.boxes);
  const T* grad = static_cast<const T*>(args.grad);
  T* grad_input = static_cast<T*>(args.grad_input);
  const std::int64_t blocks = (args.channels + kBlock - 1) / kBlock;
  Buffer<C> wide(is_half ? args.num_threads * kBlock * plane : 0);
  // Element (c, i) of an image or a box lies at c * channel_step + i * step.
  const std::int64_t step = args.channels_last ? args.channels : 1;
  const std::int64_t map_channel = args.channels_last ? 1 : plane, bin_channel = args.channels_last ? 1 : bins;
#pragma omp parallel for num_threads(args.num_threads) if (args.num_threads > 1) schedule(dynamic, 1)
  for (std::int64_t task = 0; task < args.images * blocks; ++task) {
    const std::int64_t n = task / blocks, first = task % blocks * kBlock;
    const std::int64_t channels = args.channels - first < kBlock ? args.channels - first : kBlock;
    T* image = grad_input + n * args.channels * plane + first * map_channel;
    C* sums = is_half ? wide.data() + thread_index() * kBlock * plane : reinterpret_cast<C*>(image);
    // The float32 copy of half types is [channels, plane] or [plane, channels] of this block only.
    const std::int64_t sum_step = !is_half ? step : args.channels_last ? channels : 1;
    for (std::int64_t i = 0; i < plane; ++i) {
      if (!args.channels_last) break;
      for (std::int64_t c = 0; c < channels; ++c) sums[c + i * sum_step] = C(0);
    }
    if (!args.channels_last) __builtin_memset(sums, 0, channels * plane * sizeof(C));
    for (std::int64_t k = 0; k < args.count; ++k) {
      if (static_cast<std::int64_t>(boxes[5 * k]) != n) continue;
      const T* g = grad + k * args.channels * bins + first * bin_channel;
      const std::int32_t* where = args.argmax + k * args.channels * bins + first * bin_channel;
      for (std::int64_t outer = 0; outer < (args.channels_last ? bins : channels); ++outer) {
        for (std::int64_t inner = 0; inner < (args.channels_last ? channels : bins); ++inner) {
          const std::int64_t c = args.channels_last ? inner : outer, bin = args.channels_last ? outer : inner;
          const std::int64_t pixel = where[c * bin_channel + bin * step];
          if (pixel >= 0 && pixel < plane) {
            sums[c * map_channel + pixel * sum_step] += to_compute(g[c * bin_channel + bin * step]);
          }
        }
      }
    }
    if constexpr (is_half) {
      for (std::int64_t i = 0; i < plane; ++i) {
        for (std::int64_t c = 0; c < channels; ++c) {
          image[c * map_channel + i * step] = from_compute<T>(sums[c * map_channel + i * sum_step]);
        }
      }
    }
  }
}

}  // namespace

void roi_pool(const RoiPoolArgs& args) {
  return with_floating(args.dtype, [&](auto element) { return forward<decltype(element)>(args); });
}

void roi_pool_backward(const RoiPoolBackwardArgs& args) {
  return with_floating(args.dtype, [&](auto element) { return backward<decltype(element)>(args); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
