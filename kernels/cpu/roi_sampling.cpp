#include "roi_sampling.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

namespace cvperf {
namespace {

constexpr double kMaxGrid = 2147483647.0;  // torchvision's int; a larger grid has no defined answer there

// One axis of one box: the samples of bin p lie at start + p * bin + (i + 0.5) * bin / grid.
struct AxisGeometry {
  double start;
  double bin;
  std::int64_t grid;  // samples per bin; 0: the box is empty and its bins are zero
};

template <class Coordinate>
AxisGeometry axis_geometry(Coordinate first, Coordinate last, double spatial_scale, std::int64_t pooled,
                           const RoiGeometry& g) {
  AxisGeometry axis;
  const double offset = g.aligned ? 0.5 : 0.0;
  axis.start = double(first) * spatial_scale - offset;
  const double end = double(last) * spatial_scale - offset;
  double size = end - axis.start;
  if (!g.aligned) size = std::max(size, 1.0);
  axis.bin = size / double(pooled);
  axis.grid = g.sampling_ratio;
  if (g.sampling_ratio <= 0) {
    const Coordinate scale = Coordinate(spatial_scale), shift = Coordinate(offset);
    Coordinate extent = (last * scale - shift) - (first * scale - shift);
    if (!g.aligned) extent = std::max(extent, Coordinate(1));
    const double count = std::ceil(double(Coordinate(extent / Coordinate(pooled))));
    axis.grid = count >= 1.0 ? std::int64_t(std::min(count, kMaxGrid)) : 0;  // NaN: 0
  }
  return axis;
}

// An upper bound of the number of (bin, pixel) pairs. Adaptive samples lie at least half a pixel apart, so
// consecutive bins overlap by at most two pixels even after rounding; 4 leaves room, and fill_bins checks.
std::int64_t tap_capacity(const AxisGeometry& axis, std::int64_t pooled, std::int64_t size) {
  const std::int64_t per_bin = std::min(2 * axis.grid, size);
  return std::min(per_bin * pooled, size + 4 * pooled);
}

// The samples of a bin that can lie in [-1, size], as [first, last). One more on each side covers rounding.
void candidates(const AxisGeometry& axis, double origin, std::int64_t size, std::int64_t* first, std::int64_t* last) {
  *first = *last = 0;
  const double step = axis.bin / double(axis.grid);
  if (!std::isfinite(origin) || !std::isfinite(step) || size == 0) return;
  if (origin >= -1.0 && origin <= double(size) && std::abs(step) * double(axis.grid) < 1.0) {
    *last = axis.grid;  // also a step of zero
    return;
  }
  if (step == 0.0) return;
  double a = (-1.0 - origin) / step - 0.5, b = (double(size) - origin) / step - 0.5;
  if (a > b) std::swap(a, b);
  const double limit = double(axis.grid);
  *first = std::int64_t(std::min(std::max(std::floor(a) - 1.0, 0.0), limit));
  *last = std::int64_t(std::min(std::max(std::ceil(b) + 2.0, 0.0), limit));
}

template <class T>
struct AxisStorage {
  std::int32_t* key;
  std::int32_t* begin;
  RoiTap<T>* taps;
};

// Merges the samples of one bin by pixel. Pixels come in ascending order, so at most two are open: a sample
// between `pixel_` and the next. Weights are summed in double and rounded once. A pixel that is read with
// weight zero stays in the list: zero times infinity is NaN here as in torchvision.
template <class T>
class BinWriter {
 public:
  BinWriter(RoiTap<T>* taps, std::int64_t capacity, double scale) : taps_(taps), capacity_(capacity), scale_(scale) {}

  void add(std::int64_t pixel, double weight, double next_weight, bool reads_next) {
    if (pixel != pixel_) {
      const bool adjacent = pixel == pixel_ + 1;
      const double carried = adjacent ? weight_[1] : 0.0;
      if (adjacent) open_ = open_ ? 1 : 0;  // the second open pixel becomes the first
      flush();
      pixel_ = pixel;
      weight_[0] = carried;
      weight_[1] = 0.0;
      open_ = 1;
    }
    weight_[0] += weight;
    weight_[1] += next_weight;
    if (reads_next) open_ = 2;
  }
  std::int64_t finish_bin() {  // the number of taps so far
    flush();
    pixel_ = kNone;
    open_ = 0;
    weight_[0] = weight_[1] = 0.0;
    return count_;
  }

 private:
  static constexpr std::int64_t kNone = -2;
  void flush() {
    for (int i = 0; i < open_; ++i) {
      if (count_ < capacity_) taps_[count_++] = {std::int32_t(pixel_ + i), T(weight_[i] * scale_)};
    }
  }

  RoiTap<T>* taps_;
  std::int64_t capacity_;
  double scale_;
  std::int64_t count_ = 0;
  std::int64_t pixel_ = kNone;
  int open_ = 0;
  double weight_[2] = {0.0, 0.0};
};

template <class T>
RoiAxis<T> fill_bins(const AxisGeometry& axis, std::int64_t pooled, std::int64_t size, std::int64_t capacity,
                     const AxisStorage<T>& out) {
  BinWriter<T> writer(out.taps, capacity, axis.grid > 0 ? 1.0 / double(axis.grid) : 0.0);
  std::int64_t count = 0;
  std::int32_t low = std::numeric_limits<std::int32_t>::max(), high = 0;
  for (std::int64_t p = 0; p < pooled; ++p) {
    out.key[p] = std::int32_t(p);
    out.begin[p] = std::int32_t(count);
    if (axis.grid <= 0) continue;
    const double origin = axis.start + double(p) * axis.bin;
    std::int64_t first, last;
    candidates(axis, origin, size, &first, &last);
    const bool reversed = axis.bin < 0.0;
    for (std::int64_t n = first; n < last; ++n) {
      const std::int64_t i = reversed ? first + last - 1 - n : n;
      double y = origin + (double(i) + 0.5) * axis.bin / double(axis.grid);
      if (!(y >= -1.0 && y <= double(size))) continue;
      y = std::max(y, 0.0);
      const std::int64_t below = std::int64_t(y);
      if (below >= size - 1) {
        writer.add(size - 1, 1.0, 0.0, false);
      } else {
        const double fraction = y - double(below);
        writer.add(below, 1.0 - fraction, fraction, true);
      }
    }
    const std::int64_t end = writer.finish_bin();
    if (end > count) {
      low = std::min(low, out.taps[count].index);
      high = std::max(high, out.taps[end - 1].index + 1);
    }
    count = end;
  }
  out.begin[pooled] = std::int32_t(count);
  return {std::int32_t(pooled), high > 0 ? low : 0, high, out.key, out.begin, out.taps};
}

// Counting sort of the pairs by pixel; within a pixel bins ascend.
template <class T>
RoiAxis<T> transpose(const RoiAxis<T>& bins, std::int32_t* counts, const AxisStorage<T>& out) {
  const std::int32_t span = bins.high - bins.low;
  std::fill(counts, counts + span + 1, 0);
  const std::int32_t total = bins.begin[bins.groups];
  for (std::int32_t t = 0; t < total; ++t) ++counts[bins.taps[t].index - bins.low];
  std::int32_t groups = 0, position = 0;
  for (std::int32_t i = 0; i < span; ++i) {
    const std::int32_t n = counts[i];
    counts[i] = position;
    if (n == 0) continue;
    out.key[groups] = bins.low + i;
    out.begin[groups++] = position;
    position += n;
  }
  out.begin[groups] = position;
  for (std::int32_t p = 0; p < bins.groups; ++p) {
    for (std::int32_t t = bins.begin[p]; t < bins.begin[p + 1]; ++t) {
      out.taps[counts[bins.taps[t].index - bins.low]++] = {p, bins.taps[t].weight};
    }
  }
  return {groups, bins.low, bins.high, out.key, out.begin, out.taps};
}

template <class T>
struct Storage {
  std::vector<RoiBox<T>> boxes;
  std::vector<std::int64_t> sorted, begin;
  std::unique_ptr<RoiTap<T>[]> taps;        // left uninitialised: pages that no box needs are never touched
  std::unique_ptr<std::int32_t[]> indices;  // keys and begins
};

// Scratch of one thread for the lists by bin that transpose() turns round.
template <class T>
struct Scratch {
  Scratch(std::int64_t capacity, std::int64_t pooled, std::int64_t size)
      : taps(new RoiTap<T>[capacity]), indices(new std::int32_t[2 * pooled + 1]), counts(new std::int32_t[size + 1]) {}
  AxisStorage<T> axis(std::int64_t pooled) { return {indices.get(), indices.get() + pooled, taps.get()}; }
  std::unique_ptr<RoiTap<T>[]> taps;
  std::unique_ptr<std::int32_t[]> indices, counts;
};

template <class T>
struct Plan {
  AxisGeometry axis[2];  // y, x
  std::int64_t size[2], tap_offset[2], index_offset[2], capacity[2];
};

// Counting sort by map, image and the tile that holds the box's first pixel.
template <class T>
void sort_boxes(const RoiGeometry& g, Storage<T>& storage) {
  constexpr int kTile = 16;  // pixels on a side
  std::vector<std::int64_t> first_key(g.num_maps * g.images + 1, 0);
  for (std::int64_t place = 0; place < g.num_maps * g.images; ++place) {
    const RoiMap& map = g.maps[place / g.images];
    first_key[place + 1] = first_key[place] + (map.height / kTile + 1) * (map.width / kTile + 1);
  }
  const auto key = [&](std::int64_t k) {
    const RoiBox<T>& box = storage.boxes[k];
    const std::int64_t columns = g.maps[box.map].width / kTile + 1;
    return first_key[box.map * g.images + box.image] + box.y.low / kTile * columns + box.x.low / kTile;
  };
  std::vector<std::int64_t> next(first_key.back() + 1, 0);
  for (std::int64_t k = 0; k < g.count; ++k) ++next[key(k) + 1];
  for (std::size_t i = 1; i < next.size(); ++i) next[i] += next[i - 1];
  storage.begin.resize(first_key.size());
  for (std::size_t place = 0; place < first_key.size(); ++place) storage.begin[place] = next[first_key[place]];
  storage.sorted.resize(g.count);
  for (std::int64_t k = 0; k < g.count; ++k) storage.sorted[next[key(k)]++] = k;
}

template <class T, class Coordinate>
void build(const RoiGeometry& g, RoiOrder order, Storage<T>& storage) {
  const Coordinate* boxes = static_cast<const Coordinate*>(g.boxes);
  const std::int64_t pooled[2] = {g.pooled_height, g.pooled_width};
  const bool by_pixel = order == RoiOrder::by_pixel;
  std::vector<Plan<T>> plans(g.count);
  storage.boxes.resize(g.count);
  std::int64_t taps = 0, indices = 0, most = 0, longest = 0;
  for (std::int64_t m = 0; m < g.num_maps; ++m) longest = std::max({longest, g.maps[m].height, g.maps[m].width});
  for (std::int64_t k = 0; k < g.count; ++k) {
    const Coordinate* box = boxes + 5 * k;
    const std::int32_t level = g.levels ? g.levels[k] : 0;
    storage.boxes[k].map = std::max(level, 0);
    storage.boxes[k].image = std::int64_t(box[0]);
    const RoiMap& map = g.maps[storage.boxes[k].map];
    Plan<T>& plan = plans[k];
    plan.size[0] = map.height;
    plan.size[1] = map.width;
    for (int a = 0; a < 2; ++a) {
      plan.axis[a] = axis_geometry(box[2 - a], box[4 - a], map.spatial_scale, pooled[a], g);
      if (level < 0) plan.axis[a].grid = 0;
      plan.capacity[a] = tap_capacity(plan.axis[a], pooled[a], plan.size[a]);
      const std::int64_t groups = by_pixel ? std::min(plan.capacity[a], plan.size[a]) : pooled[a];
      plan.tap_offset[a] = taps;
      plan.index_offset[a] = indices;
      taps += plan.capacity[a];
      indices += 2 * groups + 1;
      most = std::max(most, plan.capacity[a]);
    }
  }
  storage.taps.reset(new RoiTap<T>[taps]);
  storage.indices.reset(new std::int32_t[indices]);

  const int threads = int(std::min<std::int64_t>(g.num_threads, g.count / 32 + 1));
  std::vector<std::unique_ptr<Scratch<T>>> scratch(threads);
  for (auto& s : scratch) {
    if (by_pixel) s.reset(new Scratch<T>(most, std::max(pooled[0], pooled[1]), longest));
  }
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
  for (int part = 0; part < threads; ++part) {
    for (std::int64_t k = g.count * part / threads; k < g.count * (part + 1) / threads; ++k) {
      const Plan<T>& plan = plans[k];
      RoiAxis<T> axes[2];
      for (int a = 0; a < 2; ++a) {
        std::int32_t* index = storage.indices.get() + plan.index_offset[a];
        const std::int64_t groups = by_pixel ? std::min(plan.capacity[a], plan.size[a]) : pooled[a];
        const AxisStorage<T> out{index, index + groups, storage.taps.get() + plan.tap_offset[a]};
        if (by_pixel) {
          const RoiAxis<T> bins =
              fill_bins(plan.axis[a], pooled[a], plan.size[a], plan.capacity[a], scratch[part]->axis(pooled[a]));
          axes[a] = transpose(bins, scratch[part]->counts.get(), out);
        } else {
          axes[a] = fill_bins(plan.axis[a], pooled[a], plan.size[a], plan.capacity[a], out);
        }
      }
      storage.boxes[k].y = axes[0];
      storage.boxes[k].x = axes[1];
    }
  }
  sort_boxes(g, storage);
}

}  // namespace

template <class T>
RoiSampling<T>::RoiSampling(const RoiGeometry& geometry, RoiOrder order) {
  std::unique_ptr<Storage<T>> storage(new Storage<T>);
  if (geometry.boxes_f64) {
    build<T, double>(geometry, order, *storage);
  } else {
    build<T, float>(geometry, order, *storage);
  }
  boxes = storage->boxes.data();
  sorted = storage->sorted.data();
  begin = storage->begin.data();
  storage_ = storage.release();
}

template <class T>
RoiSampling<T>::~RoiSampling() {
  delete static_cast<Storage<T>*>(storage_);
}

template struct RoiSampling<float>;
template struct RoiSampling<double>;

}  // namespace cvperf
