// Non-maximum suppression, index for index what torchvision's CPU kernel answers.
//
// Boxes are taken by descending score (sort.cpp). Each is compared with the boxes kept so far, not each kept
// box with all that follow: kept boxes are few and stored as vectors in cache (nms_boxes.hpp), and the first
// vector with a suppressor ends the search. The IoU's division happens only in vectors where a multiplicative
// screen, rounding included, cannot exclude suppression. Above some hundred kept boxes a hash grid
// (nms_grid.hpp) finds those near enough in place and size; a box for which that is no gain sweeps the whole
// list. Both are exact, so which one ran does not show. After the idea of greedy NMS in Felzenszwalb et al.,
// "Object Detection with Discriminatively Trained Part-Based Models", 2010.
//
// Why a box may be left out (threshold t >= 0; all of it holds in floating point, by monotonic rounding): if
// x2 <= x1, y2 <= y1, a coordinate is NaN, or the area is 0 or inf, each IoU with it is 0, NaN or negative: it is
// kept and suppresses nothing. And no IoU exceeds 1: the intersection is at most either area.
// For t < 0, where even boxes apart suppress each other, the plain sweep runs on every box without the screen.
#include "nms.hpp"

#include "buffer.hpp"
#include "nms_grid.hpp"
#include "sort.hpp"

#ifdef _OPENMP
extern "C" int omp_get_thread_num();  // omp.h is not needed for this one
#endif

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kGridFrom = 256;  // kept boxes from which the grid pays
constexpr std::int64_t kCellCost = 4;    // chunks of the plain sweep in the time of one cell
constexpr std::int64_t kParallelFrom = 2000;
constexpr int kUnroll = 4;  // chunks per step of the plain sweep

inline int thread_number() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

// Scratch memory of one thread.
template <class T>
struct Workspace {
  T *kept, *chunks;
  std::int32_t *heads, *links;
};

// Workspaces of `parts` threads for up to n boxes each, all allocated before the threads start.
template <class T>
class Scratch {
 public:
  Scratch(std::int64_t n, bool with_grid, int parts)
      : kept_size_((n / kLanes<T> + 1 + kUnroll) * kChunk<T>),
        chunks_(with_grid ? Grid<T>::chunks_for(n) : 0),
        heads_(with_grid ? Grid<T>::buckets_for(n) : 0),
        reals_(static_cast<std::size_t>(parts * (kept_size_ + chunks_ * kChunk<T>))),
        integers_(static_cast<std::size_t>(parts * (heads_ + 2 * chunks_))) {}

  Workspace<T> part(int i) {
    T* reals = reals_.data() + i * (kept_size_ + chunks_ * kChunk<T>);
    std::int32_t* integers = integers_.data() + i * (heads_ + 2 * chunks_);
    return {reals, reals + kept_size_, integers, integers + heads_};
  }

 private:
  std::int64_t kept_size_, chunks_, heads_;
  Buffer<T> reals_;
  Buffer<std::int32_t> integers_;
};

// The kept boxes in one list.
template <class T>
struct KeptList {
  T* chunks;
  std::int64_t count = 0;

  void insert(const Box<T>& box) {
    T* chunk = chunks + count / kLanes<T> * kChunk<T>;
    if (count % (kUnroll * kLanes<T>) == 0) {
      for (int i = 0; i < kUnroll; ++i) clear_chunk(chunk + i * kChunk<T>);
    }
    set_lane(chunk, static_cast<int>(count++ % kLanes<T>), box);
  }
  Box<T> box(std::int64_t i) const {
    const T* p = chunks + i / kLanes<T> * kChunk<T> + i % kLanes<T>;
    return {p[0], p[kLanes<T>], p[2 * kLanes<T>], p[3 * kLanes<T>], T(0), p[4 * kLanes<T>]};
  }
  const T* end() const { return chunks + (count + kLanes<T> - 1) / kLanes<T> * kChunk<T>; }

  template <bool kScreen>
  CVPERF_INLINE bool suppresses(const Query<T>& query) const {
    const T* const stop = end();
    for (const T* chunk = chunks; chunk < stop; chunk += kUnroll * kChunk<T>) {
      if constexpr (kScreen) {
        auto hits = query.screen(chunk);
        for (int i = 1; i < kUnroll; ++i) hits |= query.screen(chunk + i * kChunk<T>);
        if (!any(hits)) continue;
      }
      for (int i = 0; i < kUnroll; ++i) {
        if (any(query.exact(chunk + i * kChunk<T>))) return true;
      }
    }
    return false;
  }
};

template <class S, class T = Compute<S>>
CVPERF_INLINE Box<T> load_box(const S* p, const Threshold<T>& threshold) {
  const T x1 = to_compute(p[0]), y1 = to_compute(p[1]), x2 = to_compute(p[2]), y2 = to_compute(p[3]);
  const T area = (x2 - x1) * (y2 - y1);
  return {x1, y1, x2, y2, area, threshold.share_of(area)};
}

// Files the kept boxes. False if one of them has no place.
template <class T>
bool fill(Grid<T>& grid, const KeptList<T>& kept) {
  grid.clear();
  for (std::int64_t i = 0; i < kept.count; ++i) {
    const Box<T> box = kept.box(i);
    Place place;
    if (!Grid<T>::locate(box, place)) return false;
    grid.insert(box, place);
  }
  return true;
}

// Non-maximum suppression of one class. index(i) is the box of the i-th highest score; keep(i) is called, by
// ascending i, for those that stay.
template <class S, class Index, class Keep>
void suppress(const S* boxes, std::int64_t n, const Threshold<Compute<S>>& threshold, bool with_grid,
              Workspace<Compute<S>> work, Index index, Keep keep) {
  using T = Compute<S>;
  constexpr std::int64_t kAhead = 8;
  const T infinity = T(__builtin_inf());
  KeptList<T> kept{work.kept};
  Grid<T> grid(n, work.chunks, work.heads, work.links, double(threshold.value));
  std::int64_t grid_from = with_grid ? kGridFrom : n;  // the number of kept boxes from which the grid is used
  bool has_grid = false;
  for (std::int64_t i = 0; i < n; ++i) {
    if (i + kAhead < n) __builtin_prefetch(boxes + 4 * index(i + kAhead));
    const Box<T> box = load_box(boxes + 4 * index(i), threshold);
    const Query<T> query(box, threshold);
    if (threshold.value < 0) {
      if (kept.template suppresses<false>(query)) continue;
      kept.insert(box);
    } else if (box.x2 > box.x1 && box.y2 > box.y1 && box.area > 0 && box.area < infinity) {
      Place place;
      const bool placed = kept.count >= grid_from && Grid<T>::locate(box, place);
      if (kept.count >= grid_from && !has_grid) {
        has_grid = fill(grid, kept);
        if (!has_grid) grid_from = n;
      }
      if (has_grid && placed) {
        if (grid.home_suppresses(query, place)) continue;
        Cells cells;
        grid.find_cells(place, cells);
        const bool few = cells.count * (kCellCost * kLanes<T>) <= kept.count;
        if (few ? grid.suppresses(query, cells) : kept.template suppresses<true>(query)) continue;
        grid.insert(box, place);
      } else {
        if (kept.template suppresses<true>(query)) continue;
        if (has_grid) {  // each later box must be tested against this one, which has no cell: no grid any more
          has_grid = false;
          grid_from = n;
        }
      }
      kept.insert(box);
    }
    keep(i);
  }
}

// Whether a class of n boxes gets memory for a grid.
template <class T>
bool wants_grid(std::int64_t n, const Threshold<T>& threshold) {
  return n >= 2 * kGridFrom && n < (1 << 30) && threshold.value >= T(Grid<T>::kLeastThreshold);
}

// Classes are separate by construction: each is suppressed alone, and marks the ranks that stay.
template <class S, class T = Compute<S>>
void suppress_classes(const NmsArgs& args, const std::int64_t* order, const Threshold<T>& threshold,
                      std::uint8_t* stays) {
  const std::int64_t n = args.n;
  Buffer<std::int64_t> ranks_buffer(static_cast<std::size_t>(n)), starts(static_cast<std::size_t>(n + 1));
  const std::int64_t classes = group_by_class(args.classes, order, n, ranks_buffer.data(), starts.data());
  std::int64_t largest = 0;
  for (std::int64_t c = 0; c < classes; ++c) {
    const std::int64_t count = starts[c + 1] - starts[c];
    largest = count > largest ? count : largest;
  }
  const std::int64_t useful = n < kParallelFrom || classes < 1 ? 1 : classes;
  const int threads = static_cast<int>(args.num_threads < useful ? args.num_threads : useful);
  Scratch<T> scratch(largest, wants_grid(largest, threshold), threads);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1)
  for (std::int64_t c = 0; c < classes; ++c) {
    const std::int64_t* const ranks = ranks_buffer.data() + starts[c];
    const std::int64_t count = starts[c + 1] - starts[c];
    const auto index = [=](std::int64_t i) { return order[ranks[i]]; };
    const auto keep = [=](std::int64_t i) { stays[ranks[i]] = 1; };
    suppress(static_cast<const S*>(args.boxes), count, threshold, wants_grid(count, threshold),
             scratch.part(thread_number()), index, keep);
  }
}

template <class S>
std::int64_t run(const NmsArgs& args) {
  using T = Compute<S>;
  const std::int64_t n = args.n;
  const Threshold<T> threshold = make_threshold<T>(args.iou_threshold);
  Buffer<std::int64_t> order_buffer(static_cast<std::size_t>(n));
  std::int64_t* const order = order_buffer.data();
  order_by_score(args.scores, args.dtype, n, order);
  std::int64_t kept = 0;
  if (!(threshold.value < 1)) {  // no IoU exceeds 1, nor NaN
    for (; kept < n; ++kept) args.keep[kept] = order[kept];
  } else if (args.classes) {
    Buffer<std::uint8_t> stays(static_cast<std::size_t>(n));
    for (std::int64_t rank = 0; rank < n; ++rank) stays[rank] = 0;
    suppress_classes<S>(args, order, threshold, stays.data());
    for (std::int64_t rank = 0; rank < n; ++rank) {
      if (stays[rank]) args.keep[kept++] = order[rank];
    }
  } else {
    const bool with_grid = wants_grid(n, threshold);
    Scratch<T> scratch(n, with_grid, 1);
    const auto index = [=](std::int64_t i) { return order[i]; };
    const auto keep = [&](std::int64_t i) { args.keep[kept++] = order[i]; };
    suppress(static_cast<const S*>(args.boxes), n, threshold, with_grid, scratch.part(0), index, keep);
  }
  return kept;
}

}  // namespace

std::int64_t nms(const NmsArgs& args) {
  return with_floating(args.dtype, [&](auto element) { return run<decltype(element)>(args); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
