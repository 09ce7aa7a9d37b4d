// RoI Align, forward. The lists of rows and columns that a bin reads, with their weights, come from
// roi_sampling; here a bin is the sum over its rows and columns of wy * wx * pixel, for all channels.
//
// Channels last: a pixel is a run of channels, so a block of channels of one bin stays in registers while its
// pixels stream past. What bounds it is fetching pixels: a box reads a pixel about once, and only different
// boxes share them. So the bins of all boxes are visited tile by tile of the map, and a tile comes from the
// second-level cache for all but the first that reads it. Tiles keep all channels: a slice of the channels at
// a large stride would use only some of the cache's sets.
//
// NCHW: a vector of channels at a time over all the boxes of an image, likewise from top to bottom.
// A row of bins is first reduced over its map rows with consecutive pixels in the lanes, as memory has them;
// the few reduced rows are transposed in registers to put channels in the lanes, where a bin's columns can
// be anywhere. Reducing before transposing moves pooled_height rows a box and not its whole height.
#include "roi_align.hpp"

#include "buffer.hpp"
#include "pages.hpp"
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

// --- channels last -----------------------------------------------------------------------------

// One bin, Vectors * lanes channels.
template <int Vectors, class T, class C = Compute<T>>
CVPERF_INLINE void pool_bin(const T* image, std::int64_t row_stride, std::int64_t channels, const RoiTap<C>* row,
                            const RoiTap<C>* row_end, const RoiTap<C>* first, const RoiTap<C>* last, T* out) {
  Vec<C> sum[Vectors] = {};
  for (; row != row_end; ++row) {
    const T* pixels = image + row->index * row_stride;
    for (const RoiTap<C>* column = first; column != last; ++column) {
      const T* pixel = pixels + column->index * channels;
      const Vec<C> weight = broadcast(row->weight * column->weight);
#pragma GCC unroll 16
      for (int v = 0; v < Vectors; ++v) sum[v] += load(pixel + v * kLanes<C>) * weight;
    }
  }
#pragma GCC unroll 16
  for (int v = 0; v < Vectors; ++v) store(out + v * kLanes<C>, sum[v]);
}

// The channels that do not fill a vector.
template <class T, class C = Compute<T>>
void pool_bin_tail(const T* image, std::int64_t row_stride, std::int64_t channels, const RoiTap<C>* row,
                   const RoiTap<C>* row_end, const RoiTap<C>* first, const RoiTap<C>* last, T* out, int count) {
  C sum[kLanes<C>] = {};
  for (; row != row_end; ++row) {
    const T* pixels = image + row->index * row_stride;
    for (const RoiTap<C>* column = first; column != last; ++column) {
      const T* pixel = pixels + column->index * channels;
      const C weight = row->weight * column->weight;
      for (int i = 0; i < count; ++i) sum[i] += to_compute(pixel[i]) * weight;
    }
  }
  for (int i = 0; i < count; ++i) out[i] = from_compute<T>(sum[i]);
}

// One bin of one box, all channels.
template <class T, class C = Compute<T>>
void pool_channels(const T* image, std::int64_t row_stride, std::int64_t channels, const RoiBox<C>& box, std::int32_t i,
                   std::int32_t j, T* out) {
  constexpr int kVectors = 8, kL = kLanes<C>;
  const RoiTap<C>*row = box.y.taps + box.y.begin[i], *row_end = box.y.taps + box.y.begin[i + 1];
  const RoiTap<C>*first = box.x.taps + box.x.begin[j], *last = box.x.taps + box.x.begin[j + 1];
  std::int64_t c = 0;
  for (; c + kVectors * kL <= channels; c += kVectors * kL) {
    pool_bin<kVectors>(image + c, row_stride, channels, row, row_end, first, last, out + c);
  }
  for (; c + kL <= channels; c += kL) {
    pool_bin<1>(image + c, row_stride, channels, row, row_end, first, last, out + c);
  }
  if (c < channels) {
    pool_bin_tail(image + c, row_stride, channels, row, row_end, first, last, out + c, static_cast<int>(channels - c));
  }
}

struct BinRef {
  std::int32_t box, row, column;
};

// The bins of all boxes, tile by tile of the map (by a bin's first pixel).
class TileOrder {
 public:
  template <class C>
  TileOrder(const RoiSampling<C>& sampling, const RoiGeometry& roi, std::int64_t pixel_bytes)
      : bins_(roi.count * roi.pooled_height * roi.pooled_width) {
    constexpr std::int64_t kTileBytes = 64 << 10;  // a tile and its surroundings fit the second-level cache
    int shift = 2;
    while (shift < 8 && (pixel_bytes << 2 * (shift + 1)) <= kTileBytes) ++shift;
    const std::int64_t columns = (roi.width >> shift) + 1, tiles = ((roi.height >> shift) + 1) * columns;
    Buffer<std::int64_t> next(roi.images * tiles + 1);
    for (std::int64_t i = 0; i <= roi.images * tiles; ++i) next[i] = 0;
    const auto visit = [&](auto&& each) {
      for (std::int64_t k = 0; k < roi.count; ++k) {
        const RoiBox<C>& box = sampling.boxes[k];
        for (std::int32_t i = 0; i < box.y.groups; ++i) {
          const std::int64_t tile = box.image * tiles + (first_pixel(box.y, i) >> shift) * columns;
          for (std::int32_t j = 0; j < box.x.groups; ++j) {
            each(tile + (first_pixel(box.x, j) >> shift), BinRef{static_cast<std::int32_t>(k), i, j});
          }
        }
      }
    };
    visit([&](std::int64_t tile, BinRef) { ++next[tile + 1]; });
    for (std::int64_t i = 1; i <= roi.images * tiles; ++i) next[i] += next[i - 1];
    visit([&](std::int64_t tile, BinRef bin) { bins_[next[tile]++] = bin; });
  }
  const BinRef& operator[](std::int64_t i) const { return bins_[i]; }

 private:
  template <class C>
  static std::int64_t first_pixel(const RoiAxis<C>& axis, std::int32_t group) {
    return axis.begin[group] < axis.begin[group + 1] ? axis.taps[axis.begin[group]].index : 0;
  }
  Buffer<BinRef> bins_;
};

template <class T, class C = Compute<T>>
void forward_channels_last(const RoiAlignArgs& args, const RoiSampling<C>& sampling) {
  const RoiGeometry& roi = args.roi;
  const std::int64_t channels = args.channels, row_stride = roi.width * channels;
  const TileOrder order(sampling, roi, channels * sizeof(T));
  const std::int64_t bins = roi.count * roi.pooled_height * roi.pooled_width;
  const T* input = static_cast<const T*>(args.input);
  T* output = static_cast<T*>(args.output);
#pragma omp parallel for num_threads(roi.num_threads) if (roi.num_threads > 1) schedule(dynamic, 256)
  for (std::int64_t n = 0; n < bins; ++n) {
    const BinRef bin = order[n];
    const RoiBox<C>& box = sampling.boxes[bin.box];
    const std::int64_t index = (bin.box * roi.pooled_height + bin.row) * roi.pooled_width + bin.column;
    pool_channels(input + box.image * roi.height * row_stride, row_stride, channels, box, bin.row, bin.column,
                  output + index * channels);
  }
}

// --- NCHW --------------------------------------------------------------------------------------

template <class C>
struct Scratch {
  C* row;   // [width rounded up to lanes][lanes]: one reduced row of the box, channels in the lanes
  C* bins;  // [bins rounded up to lanes][lanes]
};

// A row of bins: sums the map rows with pixels in the lanes, then turns channels into the lanes.
template <class T, class C = Compute<T>>
CVPERF_INLINE void reduce_rows(const T* const* planes, std::int64_t width, const RoiTap<C>* row,
                               const RoiTap<C>* row_end, std::int64_t low, std::int64_t blocks, C* out) {
  constexpr int kL = kLanes<C>;
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::int64_t x = low + b * kL;
    const std::int64_t left = width - x;
    Vec<C> sum[kL] = {};
    if (left >= kL) {
      for (const RoiTap<C>* r = row; r != row_end; ++r) {
        const Vec<C> weight = broadcast(r->weight);
        const std::int64_t offset = r->index * width + x;
#pragma GCC unroll 16
        for (int c = 0; c < kL; ++c) sum[c] += load(planes[c] + offset) * weight;
      }
    } else {
      for (const RoiTap<C>* r = row; r != row_end; ++r) {
        const std::int64_t offset = r->index * width + x;
#pragma GCC unroll 16
        for (int c = 0; c < kL; ++c) {
          sum[c] += load_partial(planes[c] + offset, static_cast<int>(left)) * broadcast(r->weight);
        }
      }
    }
    transpose_square<C>(sum);
#pragma GCC unroll 16
    for (int i = 0; i < kL; ++i) store(out + (b * kL + i) * kL, sum[i]);
  }
}

// bins[bin][lane] -> out[lane][bin] for the first `valid` lanes.
template <class T, class C = Compute<T>>
CVPERF_INLINE void store_bins(const C* bins, std::int64_t count, int valid, T* out) {
  constexpr int kL = kLanes<C>;
  for (std::int64_t b = 0; b < count; b += kL) {
    Vec<C> block[kL];
#pragma GCC unroll 16
    for (int i = 0; i < kL; ++i) block[i] = load(bins + (b + i) * kL);
    transpose_square<C>(block);
    const std::int64_t left = count - b;
#pragma GCC unroll 16
    for (int c = 0; c < kL; ++c) {  // a constant count, so that the block stays in registers
      if (c >= valid) break;
      if (left >= kL) {
        store(out + c * count + b, block[c]);
      } else {
        store_partial(out + c * count + b, block[c], static_cast<int>(left));
      }
    }
  }
}

template <class T, class C = Compute<T>>
void pool_box_planes(const T* const* planes, int valid, std::int64_t width, const RoiBox<C>& box,
                     const Scratch<C>& scratch, T* out) {
  constexpr int kL = kLanes<C>;
  // Blocks of pixels start so that as few as possible cross the end of a row.
  const std::int64_t blocks = (box.x.high - box.x.low + kL - 1) / kL;
  const std::int64_t fitting = width - blocks * kL;
  const std::int64_t low = box.x.low < fitting ? box.x.low : fitting > 0 ? fitting : 0;
  C* bin = scratch.bins;
  for (std::int32_t i = 0; i < box.y.groups; ++i) {
    const RoiTap<C>*row = box.y.taps + box.y.begin[i], *row_end = box.y.taps + box.y.begin[i + 1];
    if (row != row_end) reduce_rows<T>(planes, width, row, row_end, low, blocks, scratch.row);
    for (std::int32_t j = 0; j < box.x.groups; ++j, bin += kL) {
      Vec<C> sum = {};
      if (row != row_end) {
        for (std::int32_t t = box.x.begin[j]; t < box.x.begin[j + 1]; ++t) {
          sum += load(scratch.row + (box.x.taps[t].index - low) * kL) * broadcast(box.x.taps[t].weight);
        }
      }
      store(bin, sum);
    }
  }
  store_bins<T>(scratch.bins, std::int64_t(box.y.groups) * box.x.groups, valid, out);
}

template <class T, class C = Compute<T>>
void forward_planes(const RoiAlignArgs& args, const RoiSampling<C>& sampling) {
  constexpr int kL = kLanes<C>;
  const RoiGeometry& roi = args.roi;
  const std::int64_t plane = roi.height * roi.width, bins = roi.pooled_height * roi.pooled_width;
  const std::int64_t blocks = (args.channels + kL - 1) / kL;
  const std::int64_t row_size = (roi.width + kL) * kL, bins_size = (bins + kL) * kL;
  Buffer<C> scratch(roi.num_threads * (row_size + bins_size));
  // A task is one block of channels and a share of an image's boxes: shares only where blocks are few.
  const std::int64_t wanted = roi.num_threads * 4;
  const std::int64_t shares =
      blocks * roi.images >= wanted ? 1 : (wanted + blocks * roi.images - 1) / (blocks * roi.images);
  const T* input = static_cast<const T*>(args.input);
  T* output = static_cast<T*>(args.output);
#pragma omp parallel for num_threads(roi.num_threads) if (roi.num_threads > 1) schedule(dynamic, 1)
  for (std::int64_t task = 0; task < roi.images * blocks * shares; ++task) {
    const std::int64_t share = task % shares, block = task / shares % blocks, n = task / shares / blocks;
    const std::int64_t first = sampling.image_begin[n], boxes = sampling.image_begin[n + 1] - first;
    C* mine = scratch.data() + thread_index() * (row_size + bins_size);
    const std::int64_t left = args.channels - block * kL;
    const int valid = left < kL ? static_cast<int>(left) : kL;
    const T* planes[kL];
    for (int c = 0; c < kL; ++c) {  // past the last channel: read it again, its lanes are not stored
      planes[c] = input + (n * args.channels + block * kL + (c < valid ? c : valid - 1)) * plane;
    }
    for (std::int64_t i = first + boxes * share / shares; i < first + boxes * (share + 1) / shares; ++i) {
      const std::int64_t k = sampling.sorted[i];
      pool_box_planes<T>(planes, valid, roi.width, sampling.boxes[k], Scratch<C>{mine, mine + row_size},
                         output + (k * args.channels + block * kL) * bins);
    }
  }
}

template <class T>
void forward(const RoiAlignArgs& args) {
  if (args.roi.count == 0 || args.channels == 0 || args.roi.images == 0) return;
  prefer_huge_pages(args.output,
                    args.roi.count * args.channels * args.roi.pooled_height * args.roi.pooled_width * sizeof(T));
  const RoiSampling<Compute<T>> sampling(args.roi, RoiOrder::by_bin);
  if (args.channels_last) {
    forward_channels_last<T>(args, sampling);
  } else {
    forward_planes<T>(args, sampling);
  }
}

}  // namespace

void roi_align(const RoiAlignArgs& args) {
  return with_floating(args.dtype, [&](auto element) { return forward<decltype(element)>(args); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
