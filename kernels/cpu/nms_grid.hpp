// A hash grid of kept boxes, so that a box is tested only against those that it could overlap enough. Part of
// nms.cpp.
//
// Two boxes with IoU > t have an IoU > t along x and along y too: with overlaps (a, b), IoU = ab / (w1 h1 +
// w2 h2 - ab) <= a / (w1 + w2 - a), because h1, h2 >= b. Hence, on each axis,
//   t w1 < w2 < w1 / t           and      |centre1 - centre2| < (w1 + w2) (1 - t) / (2 (1 + t)).
// Boxes are filed by two octaves of their longer side (the level) and the cell of their centre; a level's cells
// are as large as its largest box, so a query visits one to three levels and a few cells in each.
//
// A cell is a bucket number by hashing, with no key: boxes that collide are merely tested in vain, which costs
// nothing while they fit the vectors of one chunk. So each bucket is a chunk, found without a look-up and tested
// without asking how full it is; only where a bucket overflows does a chain of full chunks hang from it. The
// bounds are computed in double with t lowered by 2^-16 and cells widened by 2^-10, orders above the rounding
// errors of boxes that locate() lets in; the answer stays exact.
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

// Where a box is filed.
struct Home {
  std::uint32_t bucket;
  std::int32_t level;  // -1: nowhere
};

// Centre and sides of a box, and where it is filed.
struct Place {
  double x, y, width, height;
  Home home;
};

enum class Found { no, yes, given_up };

template <class T>
class Grid {
 public:
  static constexpr double kLeastThreshold = 0.05;  // below, a query would visit too many cells

  static std::int64_t buckets_for(std::int64_t n) {
    std::int64_t buckets = 64;
    while (buckets < 2 * n / kLanes<T>) buckets *= 2;
    return buckets;
  }
  static std::int64_t chunks_for(std::int64_t n) { return buckets_for(n) + n / kLanes<T> + 1; }
  static std::int64_t integers_for(std::int64_t n) { return buckets_for(n) + chunks_for(n); }

  // chunks: [chunks_for(n)][kChunk]; integers: [integers_for(n)].
  Grid(std::int64_t n, T* chunks, std::int32_t* integers, double threshold)
      : chunks_(chunks),
        counts_(integers),
        next_(integers + buckets_for(n)),
        mask_(static_cast<std::uint32_t>(buckets_for(n) - 1)) {
    threshold *= 1 - power_of_two(-16);
    least_ratio_ = threshold;
    greatest_ratio_ = 1 / threshold;
    reach_ = (1 - threshold) / (2 * (1 + threshold));
  }

  void clear() {
    used_ = static_cast<std::int32_t>(mask_) + 1;
    levels_ = 0;
    for (std::int32_t bucket = 0; bucket < used_; ++bucket) {
      clear_chunk(chunk(bucket));
      counts_[bucket] = 0;
      next_[bucket] = -1;
    }
  }

  // Where the box belongs. Nowhere if the bounds do not hold for it in floating point: its sides or coordinates
  // could overflow, underflow, or give cell numbers too large to be computed to 2^-20 of a cell.
  CVPERF_INLINE Place locate(const Box<T>& box) const {
    Place place;
    place.width = double(box.x2) - box.x1;
    place.height = double(box.y2) - box.y1;
    place.x = (double(box.x1) + box.x2) * 0.5;
    place.y = (double(box.y1) + box.y2) * 0.5;
    const double longer = place.width > place.height ? place.width : place.height;
    const double shorter = place.width > place.height ? place.height : place.width;
    const double limit = longer * power_of_two(20);
    const bool near = (-limit < place.x) & (limit > place.x) & (-limit < place.y) & (limit > place.y);
    if (near & (longer < power_of_two(31)) & (shorter > power_of_two(-31))) {
      const int level = level_of(longer);
      const double scale = cells_per_unit(level);
      place.home = {bucket_of(level, cell(place.x * scale), cell(place.y * scale)), level};
    } else {
      place.home = {0, -1};
    }
    return place;
  }

  void insert(const Box<T>& box, Home home) {
    const std::int32_t bucket = static_cast<std::int32_t>(home.bucket);
    levels_ |= std::uint32_t{1} << home.level;
    if (counts_[bucket] == kLanes<T>) {
      for (int part = 0; part < 5; ++part) {
        store(chunk(used_) + part * kLanes<T>, load(chunk(bucket) + part * kLanes<T>));
      }
      clear_chunk(chunk(bucket));
      next_[used_] = next_[bucket];
      next_[bucket] = used_++;
      counts_[bucket] = 0;
    }
    set_lane(chunk(bucket), counts_[bucket]++, box);
  }

  // An estimate from a sample of `total` boxes: would most of their searches do with `budget` chunks? Not if one of
  // them has no place.
  template <int kSample>
  bool promises(const Box<T> (&sample)[kSample], std::int64_t total, std::int64_t budget) const {
    Place places[kSample];
    std::uint32_t levels = 0;
    int together = 0, within = 0;
    for (int i = 0; i < kSample; ++i) {
      places[i] = locate(sample[i]);
      if (places[i].home.level < 0) return false;
      levels |= std::uint32_t{1} << places[i].home.level;
      for (int k = 0; k < i; ++k) together += places[k].home.bucket == places[i].home.bucket;
    }
    const double in_a_cell = double(total) * together / (kSample * (kSample - 1) / 2);
    for (const Place& place : places) {
      std::int64_t cells = 0;
      for (std::uint32_t near = levels_near(place, levels); near; near &= near - 1) {
        cells += cells_near(place, __builtin_ctz(near)).count();
      }
      within += double(cells) * (1 + in_a_cell / kLanes<T>) <= double(budget);
    }
    return 2 * within >= kSample;
  }

  // Whether a box of the grid suppresses the query. Given up where that takes more than `budget` chunks.
  Found search(const Query<T>& query, const Place& place, std::int64_t budget) const {
    if (suppresses(query, static_cast<std::int32_t>(place.home.bucket))) return Found::yes;  // often so
    for (std::uint32_t levels = levels_near(place, levels_); levels; levels &= levels - 1) {
      const int level = __builtin_ctz(levels);
      const Cells cells = cells_near(place, level);
      budget -= cells.count();
      if (budget < 0) return Found::given_up;
      for (int y = cells.y0; y <= cells.y1; ++y) {
        for (int x = cells.x0; x <= cells.x1; ++x) {
          std::int32_t next = static_cast<std::int32_t>(bucket_of(level, x, y));
          for (;;) {
            if (suppresses(query, next)) return Found::yes;
            next = next_[next];
            if (next < 0) break;
            if (--budget < 0) return Found::given_up;
          }
        }
      }
    }
    return Found::no;
  }

 private:
  static constexpr int kLevelZero = 32;  // level 0 holds sides of [2^-32, 2^-30)

  // Columns and rows of a level.
  struct Cells {
    int x0, x1, y0, y1;
    std::int64_t count() const { return std::int64_t{x1 - x0 + 1} * (y1 - y0 + 1); }
  };

  // Of `levels`, those whose boxes could be of a fitting size.
  CVPERF_INLINE std::uint32_t levels_near(const Place& place, std::uint32_t levels) const {
    const double longer = place.width > place.height ? place.width : place.height;
    const int low = level_of(longer * least_ratio_), high = level_of(longer * greatest_ratio_);
    levels = levels >> low << low;
    return high < 31 ? levels & ((std::uint32_t{2} << high) - 1) : levels;
  }

  CVPERF_INLINE Cells cells_near(const Place& place, int level) const {
    const double greatest_width = place.width * greatest_ratio_, greatest_height = place.height * greatest_ratio_;
    const double longest = longest_of(level), scale = cells_per_unit(level), margin = power_of_two(-10);
    const double reach_x = (place.width + (greatest_width < longest ? greatest_width : longest)) * reach_;
    const double reach_y = (place.height + (greatest_height < longest ? greatest_height : longest)) * reach_;
    return {cell((place.x - reach_x) * scale - margin), cell((place.x + reach_x) * scale + margin),
            cell((place.y - reach_y) * scale - margin), cell((place.y + reach_y) * scale + margin)};
  }

  T* chunk(std::int32_t i) const { return chunks_ + std::int64_t{i} * kChunk<T>; }

  CVPERF_INLINE bool suppresses(const Query<T>& query, std::int32_t i) const {
    const T* boxes = chunk(i);
    return query.screen(boxes) && query.exact(boxes);
  }
  static CVPERF_INLINE int level_of(double longer) {
    const int octave = static_cast<int>(double_bits(longer) >> 52) - 1023 + kLevelZero;
    return octave < 0 ? 0 : octave > 63 ? 31 : octave / 2;
  }
  static CVPERF_INLINE double longest_of(int level) { return power_of_two(2 * level - kLevelZero + 2); }
  static CVPERF_INLINE double cells_per_unit(int level) { return power_of_two(kLevelZero - 2 * level - 2); }
  static CVPERF_INLINE int cell(double position) {  // floor: the bias makes truncation round down
    return static_cast<int>(position + power_of_two(29)) - (1 << 29);
  }
  CVPERF_INLINE std::uint32_t bucket_of(int level, int x, int y) const {
    return (static_cast<std::uint32_t>(x) + static_cast<std::uint32_t>(y) * 0x9e3779b1u +
            static_cast<std::uint32_t>(level) * 0x85ebca6bu) &
           mask_;
  }

  T* chunks_;             // the buckets' newest boxes; from bucket number mask_ + 1 on, the chains' full chunks
  std::int32_t* counts_;  // boxes in the bucket's own chunk
  std::int32_t* next_;    // the chunk behind a chunk, -1 for none
  std::uint32_t mask_;
  std::int32_t used_ = 0;
  std::uint32_t levels_ = 0;  // bit per level that has a box
  double least_ratio_, greatest_ratio_, reach_;
};

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf
