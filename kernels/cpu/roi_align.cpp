// RoI Align, forward. The lists of rows and columns that a bin reads, with their weights, come from
// roi_sampling; here a bin is the sum over its rows and columns of wy * wx * pixel, for all channels.
//
// Channels last: a pixel is a run of channels, so a block of channels of one bin stays in registers while its
// pixels stream past. What bounds it is fetching pixels: a box reads a pixel about once, and only different
// boxes share them. So the rows of bins of all boxes are visited tile by tile of the map, and a tile comes from the
// second-level cache for all but the first that reads it. Tiles keep all channels: a slice of the channels at
// a large stride would use only some of the cache's sets.
//
// NCHW: one block of channels after another is turned to channels last, into scratch memory that every block uses
// anew, and only the tiles of the map that some box reads. Then boxes are pooled as above, from top to bottom, and
// the bins of a box, which fit the first-level cache, are turned back as they are stored. A tile is turned once,
// however many boxes read it: where boxes cover the map n times this moves n times less than turning each box's
// pixels, and where they cover little of it, no more. The scratch memory is one block of the largest map: 64
// channels of one image in float32 (32 on SSE), whatever the number of threads, images and boxes.
//
// Reached on 2 threads of a Zen 4, float32, share of the roofline (a pixel read once, memory's bandwidth): channels
// last 0.3 to 0.5 with 7x7 bins, 0.5 to 1 with 14x14; NCHW 0.2 to 0.4. A box reads its pixels about twice, and L2's
// bandwidth is what is left: docs/performance.md.
#include "roi_align.hpp"

#include "buffer.hpp"
#include "pages.hpp"
#include "roi_lanes.hpp"
#include "streaming.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

// From this size on, half of a third-level cache of 32 MB, outputs are written past the caches: a plain store reads
// first what it overwrites, and pushes the maps out.
constexpr std::int64_t kLargeBytes = 16 << 20;

// One bin, Vectors * lanes channels. `pixel_stride` and `row_stride` are in elements.
template <int Vectors, bool kPastCaches = false, class T, class C = Compute<T>>
CVPERF_INLINE void pool_bin(const T* image, std::int64_t row_stride, std::int64_t pixel_stride, const RoiTap<C>* row,
                            const RoiTap<C>* row_end, const RoiTap<C>* first, const RoiTap<C>* last, T* out) {
  Vec<C> sum[Vectors] = {};
  for (; row != row_end; ++row) {
    const T* pixels = image + row->index * row_stride;
    for (const RoiTap<C>* column = first; column != last; ++column) {
      const T* pixel = pixels + column->index * pixel_stride;
      asm("" : "+r"(pixel));  // else GCC keeps an address for each vector, in more registers than there are
      const Vec<C> weight = broadcast(row->weight * column->weight);
#pragma GCC unroll 16
      for (int v = 0; v < Vectors; ++v) sum[v] += load(pixel + v * kLanes<C>) * weight;
    }
  }
#pragma GCC unroll 16
  for (int v = 0; v < Vectors; ++v) {
    if constexpr (kPastCaches) {
      store_past_caches(out + v * kLanes<C>, sum[v]);
    } else {
      store(out + v * kLanes<C>, sum[v]);
    }
  }
}

template <class T>
std::int64_t output_bytes(const RoiAlignArgs& args) {
  return args.roi.count * args.channels * args.roi.pooled_height * args.roi.pooled_width * sizeof(T);
}

// --- channels last -----------------------------------------------------------------------------

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
template <bool kPastCaches, class T, class C = Compute<T>>
void pool_channels(const T* image, std::int64_t row_stride, std::int64_t channels, const RoiBox<C>& box, std::int32_t i,
                   std::int32_t j, T* out) {
  constexpr int kVectors = kVectorBytes == 64 ? 16 : 8, kL = kLanes<C>;  // half of the registers, or all but a few
  const RoiTap<C>*row = box.y.taps + box.y.begin[i], *row_end = box.y.taps + box.y.begin[i + 1];
  const RoiTap<C>*first = box.x.taps + box.x.begin[j], *last = box.x.taps + box.x.begin[j + 1];
  std::int64_t c = 0;
  for (; c + kVectors * kL <= channels; c += kVectors * kL) {
    pool_bin<kVectors, kPastCaches>(image + c, row_stride, channels, row, row_end, first, last, out + c);
  }
  for (; c + 4 * kL <= channels; c += 4 * kL) {
    pool_bin<4, kPastCaches>(image + c, row_stride, channels, row, row_end, first, last, out + c);
  }
  for (; c + kL <= channels; c += kL) {
    pool_bin<1, kPastCaches>(image + c, row_stride, channels, row, row_end, first, last, out + c);
  }
  if (c < channels) {
    pool_bin_tail(image + c, row_stride, channels, row, row_end, first, last, out + c, static_cast<int>(channels - c));
  }
}

struct BinRow {
  std::int32_t box, row;
};

// The rows of bins of all boxes, tile by tile of the maps (by the first pixel).
class TileOrder {
 public:
  template <class C>
  TileOrder(const RoiSampling<C>& sampling, const RoiGeometry& roi, std::int64_t pixel_bytes)
      : rows_(roi.count * roi.pooled_height) {
    constexpr std::int64_t kTileBytes = 64 << 10;  // a tile and its surroundings fit the second-level cache
    int shift = 2;
    while (shift < 8 && (pixel_bytes << 2 * (shift + 1)) <= kTileBytes) ++shift;
    Buffer<std::int64_t> map_begin(roi.num_maps + 1);
    map_begin[0] = 0;
    for (std::int64_t m = 0; m < roi.num_maps; ++m) {
      const RoiMap& map = roi.maps[m];
      map_begin[m + 1] = map_begin[m] + roi.images * ((map.height >> shift) + 1) * ((map.width >> shift) + 1);
    }
    const std::int64_t tiles = map_begin[roi.num_maps];
    Buffer<std::int64_t> next(tiles + 1);
    for (std::int64_t i = 0; i <= tiles; ++i) next[i] = 0;
    const auto visit = [&](auto&& each) {
      for (std::int64_t k = 0; k < roi.count; ++k) {
        const RoiBox<C>& box = sampling.boxes[k];
        const RoiMap& map = roi.maps[box.map];
        const std::int64_t columns = (map.width >> shift) + 1, image_tiles = ((map.height >> shift) + 1) * columns;
        const std::int64_t first = map_begin[box.map] + box.image * image_tiles + (box.x.low >> shift);
        for (std::int32_t i = 0; i < box.y.groups; ++i) {
          const bool reads = box.y.begin[i] < box.y.begin[i + 1];
          const std::int64_t y = reads ? box.y.taps[box.y.begin[i]].index : 0;
          each(first + (y >> shift) * columns, BinRow{static_cast<std::int32_t>(k), i});
        }
      }
    };
    visit([&](std::int64_t tile, BinRow) { ++next[tile + 1]; });
    for (std::int64_t i = 1; i <= tiles; ++i) next[i] += next[i - 1];
    visit([&](std::int64_t tile, BinRow row) { rows_[next[tile]++] = row; });
  }
  const BinRow& operator[](std::int64_t i) const { return rows_[i]; }

 private:
  Buffer<BinRow> rows_;
};

template <bool kPastCaches, class T, class C = Compute<T>>
void pool_rows(const RoiAlignArgs& args, const RoiSampling<C>& sampling, const TileOrder& order) {
  const RoiGeometry& roi = args.roi;
  const std::int64_t channels = args.channels;
  T* output = static_cast<T*>(args.output);
#pragma omp parallel num_threads(roi.num_threads) if (roi.num_threads > 1)
  {
#pragma omp for schedule(dynamic, 32) nowait
    for (std::int64_t n = 0; n < roi.count * roi.pooled_height; ++n) {
      const BinRow bins = order[n];
      const RoiBox<C>& box = sampling.boxes[bins.box];
      const std::int64_t row_stride = roi.maps[box.map].width * channels;
      const T* image = static_cast<const T*>(args.inputs[box.map]) + box.image * roi.maps[box.map].height * row_stride;
      T* out = output + (bins.box * roi.pooled_height + bins.row) * roi.pooled_width * channels;
      for (std::int32_t j = 0; j < box.x.groups; ++j, out += channels) {
        pool_channels<kPastCaches>(image, row_stride, channels, box, bins.row, j, out);
      }
    }
    if (kPastCaches) settle_streams();
  }
}

template <class T, class C = Compute<T>>
void forward_channels_last(const RoiAlignArgs& args, const RoiSampling<C>& sampling) {
  const TileOrder order(sampling, args.roi, args.channels * sizeof(T));
  if constexpr (sizeof(T) == sizeof(float) && sizeof(C) == sizeof(float)) {
    const bool aligned = vector_aligned(args.output) && args.channels % kLanes<C> == 0;
    if (aligned && output_bytes<T>(args) >= kLargeBytes) return pool_rows<true, T>(args, sampling, order);
  }
  pool_rows<false, T>(args, sampling, order);
}

// --- NCHW --------------------------------------------------------------------------------------

// Which stretches of a map's rows some box reads, in units of a vector.
template <class C>
class Touched {
 public:
  Touched(const RoiSampling<C>& sampling, const RoiGeometry& roi, std::int64_t place)
      : map_(roi.maps[place / roi.images]), columns_((map_.width + kUnit - 1) / kUnit), marks_(map_.height * columns_) {
    __builtin_memset(marks_.data(), 0, map_.height * columns_);
    for (std::int64_t n = sampling.begin[place]; n < sampling.begin[place + 1]; ++n) {
      const RoiBox<C>& box = sampling.boxes[sampling.sorted[n]];
      if (box.x.low == box.x.high) continue;
      const std::int64_t first = box.x.low / kUnit, last = (box.x.high - 1) / kUnit;
      for (std::int32_t t = 0; t < box.y.begin[box.y.groups]; ++t) {
        __builtin_memset(marks_.data() + box.y.taps[t].index * columns_ + first, 1, last - first + 1);
      }
    }
  }
  // each(begin, end) for every stretch of row y, begin and end being columns.
  template <class Each>
  void for_stretches(std::int64_t y, Each&& each) const {
    const unsigned char* row = marks_.data() + y * columns_;
    for (std::int64_t begin = 0; begin < columns_;) {
      if (!row[begin]) {
        ++begin;
        continue;
      }
      std::int64_t end = begin + 1;
      while (end < columns_ && row[end]) ++end;
      each(begin * kUnit, end * kUnit < map_.width ? end * kUnit : map_.width);
      begin = end;
    }
  }

 private:
  static constexpr int kUnit = kLanes<C>;
  const RoiMap& map_;
  std::int64_t columns_;
  Buffer<unsigned char> marks_;
};

// All bins of one box for one block of channels: pixels [height * width][lanes] -> bins [bins][lanes].
template <class C>
void pool_block(const C* pixels, std::int64_t width, int vectors, const RoiBox<C>& box, C* bins) {
  const std::int64_t lanes = vectors * kLanes<C>;
  for (std::int32_t i = 0; i < box.y.groups; ++i) {
    const RoiTap<C>*row = box.y.taps + box.y.begin[i], *row_end = box.y.taps + box.y.begin[i + 1];
    for (std::int32_t j = 0; j < box.x.groups; ++j, bins += lanes) {
      const RoiTap<C>*first = box.x.taps + box.x.begin[j], *last = box.x.taps + box.x.begin[j + 1];
      if (vectors == kBlockVectors) {
        pool_bin<kBlockVectors>(pixels, width * lanes, lanes, row, row_end, first, last, bins);
        continue;
      }
      for (std::int64_t c = 0; c < lanes; c += kLanes<C>) {
        pool_bin<1>(pixels + c, width * lanes, lanes, row, row_end, first, last, bins + c);
      }
    }
  }
}

// The boxes of one map of one image.
template <class T, class C = Compute<T>>
void forward_map(const RoiAlignArgs& args, const RoiSampling<C>& sampling, std::int64_t place, C* pixels,
                 C* bins_of_threads) {
  const RoiGeometry& roi = args.roi;
  const RoiMap& map = roi.maps[place / roi.images];
  const Touched<C> touched(sampling, roi, place);
  const std::int64_t plane = map.height * map.width, bins = roi.pooled_height * roi.pooled_width;
  // Several rows of a channel at a time, which the prefetcher follows; but enough pieces for all threads.
  const std::int64_t piece = map.height / (4 * roi.num_threads), rows = piece < 1 ? 1 : piece < 16 ? piece : 16;
  const bool large = output_bytes<T>(args) >= kLargeBytes;
  const T* image = static_cast<const T*>(args.inputs[place / roi.images]) + place % roi.images * args.channels * plane;
#pragma omp parallel num_threads(roi.num_threads) if (roi.num_threads > 1)
  for (std::int64_t channel = 0; channel < args.channels; channel += kBlockLanes<C>) {
    const std::int64_t left = args.channels - channel, valid = left < kBlockLanes<C> ? left : kBlockLanes<C>;
    const int vectors = block_vectors<C>(left), lanes = vectors * kLanes<C>;
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t first = 0; first < map.height; first += rows) {
      for (int lane = 0; lane < lanes; lane += kLanes<C>) {
        for (std::int64_t y = first; y < first + rows && y < map.height; ++y) {
          touched.for_stretches(y, [&](std::int64_t begin, std::int64_t end) {
            channels_to_lanes(image + channel * plane, plane, valid, y * map.width + begin, y * map.width + end, lane,
                              lanes, pixels);
          });
        }
      }
    }
    C* mine = bins_of_threads + thread_index() * 2 * bins * kBlockLanes<C>;
#pragma omp for schedule(dynamic, 2)
    for (std::int64_t n = sampling.begin[place]; n < sampling.begin[place + 1]; ++n) {
      const std::int64_t k = sampling.sorted[n];
      T* out = static_cast<T*>(args.output) + (k * args.channels + channel) * bins;
      pool_block(pixels, map.width, vectors, sampling.boxes[k], mine);
      if constexpr (sizeof(T) == sizeof(float)) {
        if (large) {
          lanes_to_channels(mine, lanes, 0, bins, bins, valid, mine + bins * kBlockLanes<C>);
          copy_past_caches(mine + bins * kBlockLanes<C>, valid * bins, out);
          continue;
        }
      }
      lanes_to_channels(mine, lanes, 0, bins, bins, valid, out);
    }
    if (large) settle_streams();
  }
}

template <class T, class C = Compute<T>>
void forward_planar(const RoiAlignArgs& args, const RoiSampling<C>& sampling) {
  const RoiGeometry& roi = args.roi;
  std::int64_t largest = 0;
  for (std::int64_t place = 0; place < roi.num_maps * roi.images; ++place) {
    const RoiMap& map = roi.maps[place / roi.images];
    const bool read = sampling.begin[place] < sampling.begin[place + 1];
    if (read && map.height * map.width > largest) largest = map.height * map.width;
  }
  const std::int64_t lanes = block_vectors<C>(args.channels) * kLanes<C>;
  Buffer<C> pixels(largest * lanes);
  Buffer<C> bins(2 * roi.num_threads * roi.pooled_height * roi.pooled_width * kBlockLanes<C>);
  for (std::int64_t place = 0; place < roi.num_maps * roi.images; ++place) {
    if (sampling.begin[place] == sampling.begin[place + 1]) continue;
    forward_map<T>(args, sampling, place, pixels.data(), bins.data());
  }
}

template <class T>
void forward(const RoiAlignArgs& args) {
  if (args.roi.count == 0 || args.channels == 0 || args.roi.images == 0) return;
  prefer_huge_pages(args.output, output_bytes<T>(args));
  const RoiSampling<Compute<T>> sampling(args.roi, RoiOrder::by_bin);
  if (args.channels_last) {
    forward_channels_last<T>(args, sampling);
  } else {
    forward_planar<T>(args, sampling);
  }
}

}  // namespace

void roi_align(const RoiAlignArgs& args) {
  return with_floating(args.dtype, [&](auto element) { return forward<decltype(element)>(args); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
