// RoI Align, gradient of the input. No atomics, and the same bits for any number of threads: every element
// of the gradient belongs to one task, which adds the boxes of its image in a fixed order.
//
// Separable like the forward, in the other direction: roi_sampling lists for every map row the bins that read
// it, and the same for columns. A map row of a box first gets the sum over rows of bins, wy * grad (one value
// a column of bins), and every pixel of the row then adds its few columns of bins. So a pixel is read and
// written once a box, however many bins and samples touch it.
//
// A task is a band of map rows for one block of channels, [pixel][lanes] in the compute type: small enough to stay
// in the second-level cache while the boxes add to it, whatever the layout and dtype. Those matter at the two edges
// only, where the bins of a box come in (those that the band needs, which fit the first-level cache) and where
// the finished band goes out: NCHW is transposed in registers there, half types are rounded once. Scratch memory
// is a band and the bins of one box a thread.
#include "buffer.hpp"
#include "pages.hpp"
#include "roi_align.hpp"
#include "roi_lanes.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kBandBytes = 768 << 10;  // of a second-level cache of 1 MB; half as much is 5 % slower at most

// Channels `channel` .. of one map of one image, rows begin .. end - 1.
struct Band {
  std::int64_t place, channel, begin, end;
};

// Every part of every gradient once. Bands are as high as the cache allows, but enough for all threads.
template <class C>
class Bands {
 public:
  Bands(const RoiGeometry& roi, std::int64_t channels)
      : blocks_((channels + kBlockLanes<C> - 1) / kBlockLanes<C>), bands_(count(roi)) {
    std::int64_t n = 0;
    for (std::int64_t place = 0; place < roi.num_maps * roi.images; ++place) {
      const RoiMap& map = roi.maps[place / roi.images];
      if (map.height * map.width == 0) continue;
      const std::int64_t height = map.height, step = rows(map, roi);
      for (std::int64_t block = 0; block < blocks_; ++block) {
        for (std::int64_t y = 0; y < height; y += step) {
          bands_[n++] = {place, block * kBlockLanes<C>, y, y + step < height ? y + step : height};
        }
      }
    }
  }
  std::int64_t size() const { return size_; }
  std::int64_t most_pixels() const { return most_pixels_; }
  const Band& operator[](std::int64_t i) const { return bands_[i]; }

 private:
  std::int64_t rows(const RoiMap& map, const RoiGeometry& roi) const {
    const std::int64_t fit = kBandBytes / (map.width * kBlockLanes<C> * std::int64_t{sizeof(C)});
    const std::int64_t share = map.height * blocks_ * roi.images / (4 * roi.num_threads);
    const std::int64_t step = fit < share ? fit : share;
    return step < 1 ? 1 : step;
  }
  std::int64_t count(const RoiGeometry& roi) {
    for (std::int64_t m = 0; m < roi.num_maps; ++m) {
      const RoiMap& map = roi.maps[m];
      if (map.height * map.width == 0) continue;
      const std::int64_t step = rows(map, roi), pixels = (step < map.height ? step : map.height) * map.width;
      size_ += roi.images * blocks_ * ((map.height + step - 1) / step);
      if (pixels > most_pixels_) most_pixels_ = pixels;
    }
    return size_;
  }

  std::int64_t blocks_, size_ = 0, most_pixels_ = 0;
  Buffer<Band> bands_;
};

// --- the edges: bins come in, bands go out -----------------------------------------------------

// [position][channels] <-> [position][lanes]: a copy, lanes past the last channel zero.
template <class T, class C = Compute<T>>
void widen(const T* in, std::int64_t channels, std::int64_t valid, std::int64_t count, int lanes, C* out) {
  constexpr int kL = kLanes<C>;
  for (std::int64_t p = 0; p < count; ++p, in += channels, out += lanes) {
    std::int64_t c = 0;
    for (; c + kL <= valid; c += kL) store(out + c, load(in + c));
    if (c < valid) store(out + c, load_partial(in + c, static_cast<int>(valid - c)));
  }
}
template <class T, class C = Compute<T>>
void narrow(const C* in, int lanes, std::int64_t channels, std::int64_t valid, std::int64_t count, T* out) {
  constexpr int kL = kLanes<C>;
  for (std::int64_t p = 0; p < count; ++p, in += lanes, out += channels) {
    std::int64_t c = 0;
    for (; c + kL <= valid; c += kL) store(out + c, load(in + c));
    for (; c < valid; ++c) out[c] = from_compute<T>(in[c]);
  }
}

// Bins first .. last of box k for the band's channels: bins[bin][lanes].
template <class T, class C = Compute<T>>
void load_bins(const RoiAlignBackwardArgs& args, std::int64_t k, std::int64_t channel, std::int64_t valid,
               std::int64_t first, std::int64_t last, int lanes, C* bins) {
  const std::int64_t count = args.roi.pooled_height * args.roi.pooled_width;
  const T* grad = static_cast<const T*>(args.grad) + k * args.channels * count;
  if (args.channels_last) {
    widen(grad + first * args.channels + channel, args.channels, valid, last + 1 - first, lanes, bins + first * lanes);
  } else {
    for (int lane = 0; lane < lanes; lane += kLanes<C>) {
      channels_to_lanes(grad + channel * count, count, valid, first, last + 1, lane, lanes, bins);
    }
  }
}

template <class T, class C = Compute<T>>
void store_band(const RoiAlignBackwardArgs& args, const Band& band, std::int64_t valid, int lanes, const C* sums) {
  const std::int64_t m = band.place / args.roi.images, image = band.place % args.roi.images;
  const RoiMap& map = args.roi.maps[m];
  const std::int64_t plane = map.height * map.width, first = band.begin * map.width, last = band.end * map.width;
  T* out = static_cast<T*>(args.grad_inputs[m]) + image * args.channels * plane;
  if (args.channels_last) {
    narrow(sums, lanes, args.channels, valid, last - first, out + first * args.channels + band.channel);
  } else {
    lanes_to_channels(sums, lanes, first, last, plane, valid, out + band.channel * plane);
  }
}

// --- the sum ------------------------------------------------------------------------------------

// Adds one box to one map row, for Vectors * lanes channels of a block.
//   bins: [pooled_height * pooled_width][lanes], spread: [pooled_width][Vectors * kLanes], row: [width][lanes]
template <int Vectors, class C>
CVPERF_INLINE void add_row(const C* bins, std::int64_t pooled_width, int lanes, const RoiTap<C>* bin_row,
                           const RoiTap<C>* bin_row_end, const RoiAxis<C>& x, C* spread, C* row) {
  constexpr int kL = kLanes<C>, kWidth = Vectors * kL;
  for (std::int64_t j = 0; j < pooled_width; ++j) {
    Vec<C> sum[Vectors] = {};
    for (const RoiTap<C>* r = bin_row; r != bin_row_end; ++r) {
      const C* g = bins + (r->index * pooled_width + j) * lanes;
      const Vec<C> weight = broadcast(r->weight);
#pragma GCC unroll 16
      for (int v = 0; v < Vectors; ++v) sum[v] += load(g + v * kL) * weight;
    }
#pragma GCC unroll 16
    for (int v = 0; v < Vectors; ++v) store(spread + j * kWidth + v * kL, sum[v]);
  }
  for (std::int32_t i = 0; i < x.groups; ++i) {
    C* pixel = row + x.key[i] * lanes;
    Vec<C> sum[Vectors];
#pragma GCC unroll 16
    for (int v = 0; v < Vectors; ++v) sum[v] = load(pixel + v * kL);
    for (std::int32_t t = x.begin[i]; t < x.begin[i + 1]; ++t) {
      const C* s = spread + x.taps[t].index * kWidth;
      const Vec<C> weight = broadcast(x.taps[t].weight);
#pragma GCC unroll 16
      for (int v = 0; v < Vectors; ++v) sum[v] += load(s + v * kL) * weight;
    }
#pragma GCC unroll 16
    for (int v = 0; v < Vectors; ++v) store(pixel + v * kL, sum[v]);
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

// sums: [rows of the band][width][lanes]
template <class T, class C = Compute<T>>
void add_box(const RoiAlignBackwardArgs& args, const Band& band, const RoiBox<C>& box, std::int64_t k,
             std::int64_t valid, int vectors, C* bins, C* spread, C* sums) {
  const RoiAxis<C>& y = box.y;
  const int lanes = vectors * kLanes<C>;
  const std::int64_t pooled_width = args.roi.pooled_width, row_size = args.roi.maps[box.map].width * lanes;
  const std::int32_t begin = first_group(y, band.begin), end = first_group(y, band.end);
  if (begin == end || box.x.groups == 0) return;
  std::int32_t low = y.taps[y.begin[begin]].index, high = low;
  for (std::int32_t t = y.begin[begin]; t < y.begin[end]; ++t) {
    if (y.taps[t].index < low) low = y.taps[t].index;
    if (y.taps[t].index > high) high = y.taps[t].index;
  }
  load_bins<T>(args, k, band.channel, valid, low * pooled_width, (high + 1) * pooled_width - 1, lanes, bins);
  for (std::int32_t i = begin; i < end; ++i) {
    const RoiTap<C>*first = y.taps + y.begin[i], *last = y.taps + y.begin[i + 1];
    C* row = sums + (y.key[i] - band.begin) * row_size;
    if (vectors == kBlockVectors) {
      add_row<kBlockVectors>(bins, pooled_width, lanes, first, last, box.x, spread, row);
      continue;
    }
    for (int c = 0; c < lanes; c += kLanes<C>) {
      add_row<1>(bins + c, pooled_width, lanes, first, last, box.x, spread, row + c);
    }
  }
}

template <class T>
void backward(const RoiAlignBackwardArgs& args) {
  using C = Compute<T>;
  const RoiGeometry& roi = args.roi;
  if (roi.images == 0 || args.channels == 0) return;
  for (std::int64_t m = 0; m < roi.num_maps; ++m) {
    prefer_huge_pages(args.grad_inputs[m],
                      roi.images * args.channels * roi.maps[m].height * roi.maps[m].width * sizeof(T));
  }
  const RoiSampling<C> sampling(roi, RoiOrder::by_pixel);
  const Bands<C> bands(roi, args.channels);
  const std::int64_t bins_size = roi.pooled_height * roi.pooled_width * kBlockLanes<C>;
  const std::int64_t spread_size = roi.pooled_width * kBlockLanes<C>;
  const std::int64_t band_size = bands.most_pixels() * kBlockLanes<C>, mine_size = bins_size + spread_size + band_size;
  Buffer<C> scratch(roi.num_threads * mine_size);
#pragma omp parallel for num_threads(roi.num_threads) if (roi.num_threads > 1) schedule(dynamic, 1)
  for (std::int64_t n = 0; n < bands.size(); ++n) {
    const Band& band = bands[n];
    const std::int64_t left = args.channels - band.channel, valid = left < kBlockLanes<C> ? left : kBlockLanes<C>;
    const int vectors = block_vectors<C>(left), lanes = vectors * kLanes<C>;
    C* bins = scratch.data() + thread_index() * mine_size;
    C *spread = bins + bins_size, *sums = spread + spread_size;
    const RoiMap& map = roi.maps[band.place / roi.images];
    __builtin_memset(sums, 0, (band.end - band.begin) * map.width * lanes * sizeof(C));
    for (std::int64_t i = sampling.begin[band.place]; i < sampling.begin[band.place + 1]; ++i) {
      const std::int64_t k = sampling.sorted[i];
      const RoiBox<C>& box = sampling.boxes[k];
      if (box.y.low >= band.end || box.y.high <= band.begin) continue;
      add_box<T>(args, band, box, k, valid, vectors, bins, spread, sums);
    }
    store_band<T>(args, band, valid, lanes, sums);
  }
}

}  // namespace

void roi_align_backward(const RoiAlignBackwardArgs& args) {
  return with_floating(args.dtype, [&](auto element) { return backward<decltype(element)>(args); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
