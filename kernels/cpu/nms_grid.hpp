// A hash grid of kept boxes, so that a box is tested only against those that it could overlap enough. Part of
// nms.cpp.
//
// Two boxes with IoU > t have an IoU > t along x and along y too: with overlaps (a, b), IoU = ab / (w1 h1 +
// w2 h2 - ab) <= a / (w1 + w2 - a), because h1, h2 >= b. Hence, on each axis,
//   t w1 < w2 < w1 / t           and      |centre1 - centre2| < (w1 + w2) (1 - t) / (2 (1 + t)).
// Boxes are filed by the octave of their longer side (the level) and the cell of their centre; a level's cells
// are as large as its boxes, so a query visits a few levels and a few cells in each, and since kept boxes do not
// overlap by more than t, a cell holds a bounded number of them.
//
// A cell is a bucket number by hashing, with no key: boxes that collide are merely tested in vain. The bounds
// are computed in double with t lowered by 2^-16 and cells widened by 2^-10, orders above the rounding errors
// of boxes that locate() lets in; the answer stays exact.
#pragma once
#include "nms_boxes.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

CVPERF_INLINE std::int64_t double_bits(double x) {
  std::int64_t u;
  __builtin_memcpy(&u, &x, 8);
  return u;
}
CVPERF_INLINE double double_of(std::int64_t u) {
  double x;
  __builtin_memcpy(&x, &u, 8);
  return x;
}
CVPERF_INLINE double power_of_two(int exponent) { return double_of(std::int64_t{1023 + exponent} << 52); }

// Centre, sides and level of a box.
struct Place {
  double x, y, width, height;
  int level;
};

// The cells that a query visits: columns x0..x1 and rows y0..y1 of each level.
struct Cells {
  static constexpr int kMostLevels = 16;  // a query spans less than 2 log2(1 / kLeastThreshold) + 2
  struct Range {
    int level, x0, x1, y0, y1;
  } ranges[kMostLevels];
  int levels;
  std::int64_t count;
};

template <class T>
class Grid {
 public:
  static constexpr double kLeastThreshold = 0.05;  // below, a query would visit too many cells

  static std::int64_t buckets_for(std::int64_t n) {
    std::int64_t buckets = 256;
    while (buckets < n / 4) buckets *= 2;
    return buckets;
  }
  // Every chunk but the newest of its bucket is full.
  static std::int64_t chunks_for(std::int64_t n) {
    const std::int64_t chunks = buckets_for(n) + n / kLanes<T> + 1;
    return chunks < n ? chunks : n;
  }

  Grid(std::int64_t n, T* chunks, std::int32_t* heads, std::int32_t* links, double threshold)
      : chunks_(chunks), heads_(heads), links_(links), mask_(static_cast<std::uint32_t>(buckets_for(n) - 1)) {
    threshold *= 1 - power_of_two(-16);
    least_ratio_ = threshold;
    greatest_ratio_ = 1 / threshold;
    reach_ = (1 - threshold) / (2 * (1 + threshold));
  }

  void clear() {
    for (std::int64_t i = 0; i <= mask_; ++i) heads_[i] = -1;
    used_ = 0;
    levels_ = 0;
  }

  // Where the box belongs. False if the bounds do not hold for it in floating point: its sides or coordinates
  // could overflow, underflow, or give cell numbers too large to be computed to 2^-20 of a cell.
  static CVPERF_INLINE bool locate(const Box<T>& box, Place& place) {
    place.width = double(box.x2) - box.x1;
    place.height = double(box.y2) - box.y1;
    place.x = (double(box.x1) + box.x2) * 0.5;
    place.y = (double(box.y1) + box.y2) * 0.5;
    const double longer = place.width > place.height ? place.width : place.height;
    const double shorter = place.width > place.height ? place.height : place.width;
    place.level = level_of(longer);
    const double limit = longer * power_of_two(20);
    const bool near = (-limit < place.x) & (limit > place.x) & (-limit < place.y) & (limit > place.y);
    return near & (longer < power_of_two(31)) & (shorter > power_of_two(-31));
  }

  void insert(const Box<T>& box, const Place& place) {
    const int level = place.level;
    const double scale = cells_per_unit(level);
    const std::uint32_t bucket = bucket_of(level, cell(place.x * scale), cell(place.y * scale));
    levels_ |= std::uint64_t{1} << level;
    std::int32_t chunk = heads_[bucket];
    if (chunk < 0 || links_[2 * chunk + 1] == kLanes<T>) {
      links_[2 * used_] = chunk;
      links_[2 * used_ + 1] = 0;
      chunk = heads_[bucket] = used_++;
      clear_chunk(chunks_ + std::int64_t{chunk} * kChunk<T>);
    }
    set_lane(chunks_ + std::int64_t{chunk} * kChunk<T>, links_[2 * chunk + 1]++, box);
  }

  // Whether a box in the query's own cell suppresses it: often so, and cheap to find out.
  CVPERF_INLINE bool home_suppresses(const Query<T>& query, const Place& place) const {
    const double scale = cells_per_unit(place.level);
    return cell_suppresses(query, place.level, cell(place.x * scale), cell(place.y * scale));
  }

  // Finds the cells to visit.
  CVPERF_INLINE void find_cells(const Place& place, Cells& cells) const {
    const double longer = place.width > place.height ? place.width : place.height;
    const double greatest_width = place.width * greatest_ratio_, greatest_height = place.height * greatest_ratio_;
    const int low = level_of(longer * least_ratio_), high = level_of(longer * greatest_ratio_);
    std::uint64_t levels = levels_ >> low << low;
    if (high < 63) levels &= (std::uint64_t{1} << (high + 1)) - 1;
    cells.levels = 0;
    cells.count = 0;
    for (; levels; levels &= levels - 1) {
      const int level = __builtin_ctzll(levels);
      const double longest = power_of_two(level - kLevelZero + 1), scale = cells_per_unit(level);
      const double reach_x = (place.width + (greatest_width < longest ? greatest_width : longest)) * reach_;
      const double reach_y = (place.height + (greatest_height < longest ? greatest_height : longest)) * reach_;
      const double margin = power_of_two(-10);
      Cells::Range& range = cells.ranges[cells.levels++];
      range.level = level;
      range.x0 = cell((place.x - reach_x) * scale - margin);
      range.x1 = cell((place.x + reach_x) * scale + margin);
      range.y0 = cell((place.y - reach_y) * scale - margin);
      range.y1 = cell((place.y + reach_y) * scale + margin);
      cells.count += std::int64_t{range.x1 - range.x0 + 1} * (range.y1 - range.y0 + 1);
    }
  }

  CVPERF_INLINE bool suppresses(const Query<T>& query, const Cells& cells) const {
    for (int i = 0; i < cells.levels; ++i) {
      const Cells::Range& range = cells.ranges[i];
      for (int y = range.y0; y <= range.y1; ++y) {
        for (int x = range.x0; x <= range.x1; ++x) {
          if (cell_suppresses(query, range.level, x, y)) return true;
        }
      }
    }
    return false;
  }

 private:
  static constexpr int kLevelZero = 32;  // level 0 holds sides of [2^-32, 2^-31)

  CVPERF_INLINE bool cell_suppresses(const Query<T>& query, int level, int x, int y) const {
    for (std::int32_t chunk = heads_[bucket_of(level, x, y)]; chunk >= 0; chunk = links_[2 * chunk]) {
      const T* boxes = chunks_ + std::int64_t{chunk} * kChunk<T>;
      if (any(query.screen(boxes)) && any(query.exact(boxes))) return true;
    }
    return false;
  }
  static CVPERF_INLINE int level_of(double longer) {
    const int level = static_cast<int>(double_bits(longer) >> 52) - 1023 + kLevelZero;
    return level < 0 ? 0 : level > 63 ? 63 : level;
  }
  static CVPERF_INLINE double cells_per_unit(int level) { return power_of_two(kLevelZero - level); }
  static CVPERF_INLINE int cell(double position) {  // floor: the bias makes truncation round down
    return static_cast<int>(position + power_of_two(29)) - (1 << 29);
  }
  CVPERF_INLINE std::uint32_t bucket_of(int level, int x, int y) const {
    return (static_cast<std::uint32_t>(x) + static_cast<std::uint32_t>(y) * 0x9e3779b1u +
            static_cast<std::uint32_t>(level) * 0x85ebca6bu) &
           mask_;
  }

  T* chunks_;            // [chunks_for(n)][kChunk]
  std::int32_t* heads_;  // [buckets]: the newest chunk, -1 for none
  std::int32_t* links_;  // [chunks_for(n)][2]: the next older chunk of the bucket, boxes in the chunk
  std::uint32_t mask_;
  std::int32_t used_ = 0;
  std::uint64_t levels_ = 0;  // bit per level that has a box
  double least_ratio_, greatest_ratio_, reach_;
};

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf
