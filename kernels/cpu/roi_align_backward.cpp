// RoI Align, gradient of the input. No atomics, and the same bits for any number of threads: every element
// of the gradient belongs to one task, which adds the boxes of its image in their order.
//
// Separable like the forward, in the other direction: roi_sampling lists for every map row the bins that read
// it, and the same for columns. A map row of a box first gets the sum over rows of bins, wy * grad (one value
// a column of bins), and every pixel of the row then adds its few columns of bins. So a pixel is read and
// written once a box, however many bins and samples touch it.
//
// Channels last: a task is a band of map rows, small enough to stay in cache while the boxes add to it.
// NCHW: a task is a vector of channels. Columns are spread with channels in the lanes, transposed in
// registers, and added to the rows with pixels in the lanes.
// Half types add into a float32 copy of the task's part, which is rounded once at the end.
#include "buffer.hpp"
#include "pages.hpp"
#include "roi_align.hpp"
#include "shuffle.hpp"
#include "simd.hpp"

#if defined(_OPENMP)
extern "C" int omp_get_thread_num();
#endif

namespace cvperf {
namespace CVPERF_ISA {
namespace {

int thread_index() {
#if defined(_OPENMP)
  return omp_get_thread_num();
#else
  return 0;
#endif
}

template <class T>
constexpr bool kIsHalf = sizeof(T) == 2;

template <class T, class C = Compute<T>>
void round_to(T* out, const C* sums, std::int64_t count) {
  constexpr int kL = kLanes<C>;
  std::int64_t i = 0;
  for (; i + kL <= count; i += kL) store(out + i, load(sums + i));
  for (; i < count; ++i) out[i] = from_compute<T>(sums[i]);
}

// --- channels last -----------------------------------------------------------------------------

// Adds one box to one map row, for Vectors * lanes channels.
//   grad: [pooled_height, pooled_width, channels], row: the map row, spread: [pooled_width, Vectors * lanes]
template <int Vectors, class T, class C = Compute<T>>
CVPERF_INLINE void add_row(const T* grad, std::int64_t pooled_width, std::int64_t channels, const RoiTap<C>* bin_row,
                           const RoiTap<C>* bin_row_end, const RoiAxis<C>& x, C* spread, C* row) {
  constexpr int kL = kLanes<C>, kWidth = Vectors * kL;
  for (std::int64_t j = 0; j < pooled_width; ++j) {
    Vec<C> sum[Vectors] = {};
    for (const RoiTap<C>* r = bin_row; r != bin_row_end; ++r) {
      const T* g = grad + (r->index * pooled_width + j) * channels;
      const Vec<C> weight = broadcast(r->weight);
#pragma GCC unroll 16
      for (int v = 0; v < Vectors; ++v) sum[v] += load(g + v * kL) * weight;
    }
#pragma GCC unroll 16
    for (int v = 0; v < Vectors; ++v) store(spread + j * kWidth + v * kL, sum[v]);
  }
  for (std::int32_t i = 0; i < x.groups; ++i) {
    C* pixel = row + x.key[i] * channels;
    Vec<C> sum[Vectors] = {};
    for (std::int32_t t = x.begin[i]; t < x.begin[i + 1]; ++t) {
      const C* s = spread + x.taps[t].index * kWidth;
      const Vec<C> weight = broadcast(x.taps[t].weight);
#pragma GCC unroll 16
      for (int v = 0; v < Vectors; ++v) sum[v] += load(s + v * kL) * weight;
    }
#pragma GCC unroll 16
    for (int v = 0; v < Vectors; ++v) store(pixel + v * kL, load(pixel + v * kL) + sum[v]);
  }
}

// The channels that do not fill a vector.
template <class T, class C = Compute<T>>
void add_row_tail(const T* grad, std::int64_t pooled_width, std::int64_t channels, const RoiTap<C>* bin_row,
                  const RoiTap<C>* bin_row_end, const RoiAxis<C>& x, C* spread, C* row, int count) {
  for (std::int64_t j = 0; j < pooled_width; ++j) {
    C sum[kLanes<C>] = {};
    for (const RoiTap<C>* r = bin_row; r != bin_row_end; ++r) {
      const T* g = grad + (r->index * pooled_width + j) * channels;
      for (int c = 0; c < count; ++c) sum[c] += to_compute(g[c]) * r->weight;
    }
    for (int c = 0; c < count; ++c) spread[j * count + c] = sum[c];
  }
  for (std::int32_t i = 0; i < x.groups; ++i) {
    C* pixel = row + x.key[i] * channels;
    C sum[kLanes<C>] = {};
    for (std::int32_t t = x.begin[i]; t < x.begin[i + 1]; ++t) {
      const C* s = spread + x.taps[t].index * count;
      for (int c = 0; c < count; ++c) sum[c] += s[c] * x.taps[t].weight;
    }
    for (int c = 0; c < count; ++c) pixel[c] += sum[c];
  }
}

// The first map row at or after `row` that the box touches, as a group of y.
template <class C>
std::int32_t first_group(const RoiAxis<C>& y, std::int64_t row) {
  std::int32_t low = 0, high = y.groups;
  while (low < high) {
    const std::int32_t middle = (low + high) / 2;
    if (y.key[middle] < row) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

constexpr int kVectors = 8;

// band: [rows begin .. end, width, channels] of one image
template <class T, class C = Compute<T>>
void add_box_to_band(const RoiAlignBackwardArgs& args, const RoiBox<C>& box, const T* grad, std::int64_t begin,
                     std::int64_t end, C* spread, C* band) {
  constexpr int kL = kLanes<C>, kBlock = kVectors * kL;
  const std::int64_t channels = args.channels, pooled_width = args.roi.pooled_width;
  for (std::int32_t i = first_group(box.y, begin); i < box.y.groups && box.y.key[i] < end; ++i) {
    const RoiTap<C>*first = box.y.taps + box.y.begin[i], *last = box.y.taps + box.y.begin[i + 1];
    C* row = band + (box.y.key[i] - begin) * args.roi.width * channels;
    std::int64_t c = 0;
    for (; c + kBlock <= channels; c += kBlock) {
      add_row<kVectors>(grad + c, pooled_width, channels, first, last, box.x, spread, row + c);
    }
    for (; c + kL <= channels; c += kL) {
      add_row<1>(grad + c, pooled_width, channels, first, last, box.x, spread, row + c);
    }
    if (c < channels) {
      add_row_tail(grad + c, pooled_width, channels, first, last, box.x, spread, row + c,
                   static_cast<int>(channels - c));
    }
  }
}

template <class T, class C = Compute<T>>
void backward_channels_last(const RoiAlignBackwardArgs& args, const RoiSampling<C>& sampling) {
  constexpr std::int64_t kBandBytes = 512 << 10;
  const RoiGeometry& roi = args.roi;
  const std::int64_t row_size = roi.width * args.channels, row_bytes = row_size * sizeof(C);
  const std::int64_t fitting = kBandBytes / row_bytes, band_rows = fitting < 1 ? 1 : fitting;
  const std::int64_t bands = (roi.height + band_rows - 1) / band_rows;
  const std::int64_t box_size = args.channels * roi.pooled_height * roi.pooled_width;
  const std::int64_t spread_size = roi.pooled_width * kVectors * kLanes<C>;
  Buffer<C> spread(roi.num_threads * spread_size);
  Buffer<C> wide(kIsHalf<T> ? roi.num_threads * band_rows * row_size : 0);
  const T* grad = static_cast<const T*>(args.grad);
  T* grad_input = static_cast<T*>(args.grad_input);
#pragma omp parallel for num_threads(roi.num_threads) if (roi.num_threads > 1) schedule(dynamic, 1)
  for (std::int64_t task = 0; task < roi.images * bands; ++task) {
    const std::int64_t n = task / bands, begin = task % bands * band_rows;
    const std::int64_t end = begin + band_rows < roi.height ? begin + band_rows : roi.height;
    T* out = grad_input + (n * roi.height + begin) * row_size;
    C* band;
    if constexpr (kIsHalf<T>) {
      band = wide.data() + thread_index() * band_rows * row_size;
    } else {
      band = out;
    }
    __builtin_memset(band, 0, (end - begin) * row_bytes);
    for (std::int64_t i = sampling.image_begin[n]; i < sampling.image_begin[n + 1]; ++i) {
      const std::int64_t k = sampling.sorted[i];
      const RoiBox<C>& box = sampling.boxes[k];
      if (box.y.low >= end || box.y.high <= begin) continue;
      add_box_to_band<T>(args, box, grad + k * box_size, begin, end, spread.data() + thread_index() * spread_size,
                         band);
    }
    if constexpr (kIsHalf<T>) round_to<T>(out, band, (end - begin) * row_size);
  }
}

// --- NCHW --------------------------------------------------------------------------------------

// grad[lane][bin] -> bins[bin][lane]; lanes past `valid` are zero.
template <class T, class C = Compute<T>>
CVPERF_INLINE void load_bins(const T* grad, std::int64_t count, int valid, C* bins) {
  constexpr int kL = kLanes<C>;
  for (std::int64_t b = 0; b < count; b += kL) {
    const std::int64_t left = count - b;
    Vec<C> block[kL] = {};
#pragma GCC unroll 16
    for (int c = 0; c < kL; ++c) {  // a constant count, so that the block stays in registers
      if (c >= valid) break;
      block[c] = left >= kL ? load(grad + c * count + b) : load_partial(grad + c * count + b, static_cast<int>(left));
    }
    transpose_square<C>(block);
#pragma GCC unroll 16
    for (int i = 0; i < kL; ++i) store(bins + (b + i) * kL, block[i]);
  }
}

// Spreads a row of bins over the box's columns: out[block of pixels][lane][pixel].
template <class C>
CVPERF_INLINE void spread_columns(const C* bins, const RoiAxis<C>& x, std::int64_t low, std::int64_t blocks, C* out) {
  constexpr int kL = kLanes<C>;
  std::int32_t group = 0;
  for (std::int64_t b = 0; b < blocks; ++b) {
    Vec<C> block[kL] = {};
#pragma GCC unroll 16
    for (int i = 0; i < kL; ++i) {
      if (group == x.groups || x.key[group] != low + b * kL + i) continue;
      for (std::int32_t t = x.begin[group]; t < x.begin[group + 1]; ++t) {
        block[i] += load(bins + x.taps[t].index * kL) * broadcast(x.taps[t].weight);
      }
      ++group;
    }
    transpose_square<C>(block);
#pragma GCC unroll 16
    for (int c = 0; c < kL; ++c) store(out + (b * kL + c) * kL, block[c]);
  }
}

// Adds the rows of bins that read one map row to it. spread: [pooled_height][blocks][lanes][lanes]
template <class C>
CVPERF_INLINE void add_rows(const C* spread, std::int64_t blocks, const RoiTap<C>* first, const RoiTap<C>* last,
                            std::int64_t left, int valid, std::int64_t plane, C* row) {
  constexpr int kL = kLanes<C>;
  for (std::int64_t b = 0; b < blocks; ++b) {
    Vec<C> sum[kL] = {};
    for (const RoiTap<C>* r = first; r != last; ++r) {
      const C* s = spread + (r->index * blocks + b) * kL * kL;
      const Vec<C> weight = broadcast(r->weight);
#pragma GCC unroll 16
      for (int c = 0; c < kL; ++c) sum[c] += load(s + c * kL) * weight;
    }
    const int fits = left - b * kL >= kL ? kL : static_cast<int>(left - b * kL);
    C* p = row + b * kL;
#pragma GCC unroll 16
    for (int c = 0; c < kL; ++c, p += plane) {
      if (c >= valid) break;
      if (fits == kL) {
        store(p, load(p) + sum[c]);
      } else {
        store_partial(p, load_partial(p, fits) + sum[c], fits);
      }
    }
  }
}

template <class T, class C = Compute<T>>
void backward_planes(const RoiAlignBackwardArgs& args, const RoiSampling<C>& sampling) {
  constexpr int kL = kLanes<C>;
  const RoiGeometry& roi = args.roi;
  const std::int64_t plane = roi.height * roi.width, bins = roi.pooled_height * roi.pooled_width;
  const std::int64_t channel_blocks = (args.channels + kL - 1) / kL;
  const std::int64_t bins_size = (bins + kL) * kL, spread_size = roi.pooled_height * (roi.width + kL) * kL;
  Buffer<C> scratch(roi.num_threads * (bins_size + spread_size));
  Buffer<C> wide(kIsHalf<T> ? roi.num_threads * kL * plane : 0);
  const T* grad = static_cast<const T*>(args.grad);
  T* grad_input = static_cast<T*>(args.grad_input);
#pragma omp parallel for num_threads(roi.num_threads) if (roi.num_threads > 1) schedule(dynamic, 1)
  for (std::int64_t task = 0; task < roi.images * channel_blocks; ++task) {
    const std::int64_t n = task / channel_blocks, channel = task % channel_blocks * kL;
    const std::int64_t left = args.channels - channel;
    const int valid = left < kL ? static_cast<int>(left) : kL;
    C* gathered = scratch.data() + thread_index() * (bins_size + spread_size);
    C* spread = gathered + bins_size;
    T* out = grad_input + (n * args.channels + channel) * plane;
    C* sums;
    if constexpr (kIsHalf<T>) {
      sums = wide.data() + thread_index() * kL * plane;
    } else {
      sums = out;
    }
    __builtin_memset(sums, 0, valid * plane * sizeof(C));
    for (std::int64_t i = sampling.image_begin[n]; i < sampling.image_begin[n + 1]; ++i) {
      const std::int64_t k = sampling.sorted[i];
      const RoiBox<C>& box = sampling.boxes[k];
      if (box.y.groups == 0 || box.x.groups == 0) continue;
      const std::int64_t blocks = (box.x.high - box.x.low + kL - 1) / kL;
      const std::int64_t fitting = roi.width - blocks * kL;  // start so that blocks stay inside the row if they can
      const std::int64_t low = box.x.low < fitting ? box.x.low : fitting > 0 ? fitting : 0;
      load_bins<T>(grad + (k * args.channels + channel) * bins, bins, valid, gathered);
      for (std::int64_t r = 0; r < roi.pooled_height; ++r) {
        spread_columns(gathered + r * roi.pooled_width * kL, box.x, low, blocks, spread + r * blocks * kL * kL);
      }
      for (std::int32_t g = 0; g < box.y.groups; ++g) {
        add_rows(spread, blocks, box.y.taps + box.y.begin[g], box.y.taps + box.y.begin[g + 1], roi.width - low, valid,
                 plane, sums + box.y.key[g] * roi.width + low);
      }
    }
    if constexpr (kIsHalf<T>) round_to<T>(out, sums, valid * plane);
  }
}

template <class T>
void backward(const RoiAlignBackwardArgs& args) {
  const RoiGeometry& roi = args.roi;
  if (roi.images == 0 || args.channels == 0 || roi.height == 0 || roi.width == 0) return;
  prefer_huge_pages(args.grad_input, roi.images * args.channels * roi.height * roi.width * sizeof(T));
  const RoiSampling<Compute<T>> sampling(roi, RoiOrder::by_pixel);
  if (args.channels_last) {
    backward_channels_last<T>(args, sampling);
  } else {
    backward_planes<T>(args, sampling);
  }
}

}  // namespace

void roi_align_backward(const RoiAlignBackwardArgs& args) {
  return with_floating(args.dtype, [&](auto element) { return backward<decltype(element)>(args); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
