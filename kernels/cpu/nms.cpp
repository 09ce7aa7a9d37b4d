// Non-maximum suppression, index for index what torchvision's CPU kernel answers.
//
// Boxes are taken by descending score (sort.cpp). Each is compared with the boxes kept so far, not each kept
// box with all that follow: kept boxes are few and stored as vectors in cache (nms_boxes.hpp), and the first
// vector with a suppressor ends the search. The IoU's division happens only in vectors where a multiplicative
// screen, rounding included, cannot exclude suppression. Above some hundred kept boxes a hash grid
// (nms_grid.hpp) finds those near enough in place and size; a box for which that is no gain sweeps the whole
// list. Both are exact, so which one ran does not show.
// Where that is much work, boxes go in blocks (nms_suppress.hpp): threads test the boxes of a block against those
// kept before it, then one thread settles them among themselves. The answer does not depend on who tested what.
// After the idea of greedy NMS in Felzenszwalb et al., "Object Detection with Discriminatively Trained
// Part-Based Models", 2010.
//
// Why a box may be left out (threshold t >= 0; all of it holds in floating point, by monotonic rounding): if
// x2 <= x1, y2 <= y1, a coordinate is NaN, or the area is 0 or inf, each IoU with it is 0, NaN or negative: it is
// kept and suppresses nothing. And no IoU exceeds 1: the intersection is at most either area.
// For t < 0, where even boxes apart suppress each other, the plain sweep runs on every box without the screen.
#include "nms.hpp"

#include "nms_suppress.hpp"
#include "sort.hpp"
#include "thread_index.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

inline int fewer(std::int64_t useful, int threads) {
  return useful < 1 ? 1 : useful < threads ? static_cast<int>(useful) : threads;
}

// Whether n boxes get memory for a grid.
template <class T>
bool wants_grid(std::int64_t n, const Threshold<T>& threshold) {
  return n >= 2 * kGridFrom<T> && n < (1 << 30) && threshold.value >= T(Grid<T>::kLeastThreshold);
}

// Classes are separate by construction: each is suppressed alone. `members` holds the boxes by class and, in a class,
// by score; those that class c keeps are left from starts[c] on. Returns how many in kept[c].
template <class T>
void suppress_classes(const T* boxes, const Threshold<T>& threshold, bool prune, int num_threads, std::int64_t* members,
                      const std::int64_t* starts, std::int64_t classes, std::int64_t* kept) {
  std::int64_t largest = 0;
  for (std::int64_t c = 0; c < classes; ++c) {
    const std::int64_t count = starts[c + 1] - starts[c];
    largest = count > largest ? count : largest;
  }
  const int threads = starts[classes] < kParallelFrom ? 1 : fewer(classes, num_threads);
  Scratch<T> scratch(largest, prune && wants_grid(largest, threshold), threads);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1)
  for (std::int64_t c = 0; c < classes; ++c) {
    std::int64_t* const mine = members + starts[c];
    const std::int64_t count = starts[c + 1] - starts[c];
    Suppression<T> suppression({boxes, mine, count, count}, threshold, prune && wants_grid(count, threshold),
                               scratch.part(thread_index()), mine);
    kept[c] = suppression.run(1);
  }
}

template <class T>
std::int64_t run_classes(const NmsArgs& args, const T* boxes, const std::int64_t* order,
                         const Threshold<T>& threshold) {
  const std::int64_t n = args.n;
  Buffer<std::int64_t> members(static_cast<std::size_t>(n)), starts(static_cast<std::size_t>(n + 1));
  const std::int64_t classes = group_by_class(args.classes, order, n, members.data(), starts.data());
  Buffer<std::int64_t> kept(static_cast<std::size_t>(classes));
  suppress_classes(boxes, threshold, args.prune, args.num_threads, members.data(), starts.data(), classes, kept.data());
  Buffer<std::uint8_t> stays(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) stays[i] = 0;
  for (std::int64_t c = 0; c < classes; ++c) {
    for (std::int64_t i = 0; i < kept[c]; ++i) stays[members[starts[c] + i]] = 1;
  }
  std::int64_t total = 0;
  for (std::int64_t rank = 0; rank < n; ++rank) {  // without a branch: keep[total] is written until it stays
    args.keep[total] = order[rank];
    total += stays[order[rank]];
  }
  return total;
}

template <class T>
std::int64_t run(const NmsArgs& args, const T* boxes) {
  const std::int64_t n = args.n;
  const Threshold<T> threshold = make_threshold<T>(args.iou_threshold);
  if (n == 0) return 0;
  Buffer<std::int64_t> order(static_cast<std::size_t>(n));
  // Of one class the sort is a small part of the work, which often needs no other thread; waking them for it gains
  // 2 to 6 %, and where another program holds a processor, waiting for them takes milliseconds.
  order_by_score(args.scores, args.dtype, n, order.data(), args.classes ? args.num_threads : 1);
  if (!(threshold.value < 1)) {  // no IoU exceeds 1, nor NaN
    for (std::int64_t i = 0; i < n; ++i) args.keep[i] = order[i];
    return n;
  }
  if (args.classes) return run_classes(args, boxes, order.data(), threshold);
  const bool with_grid = args.prune && wants_grid(n, threshold);
  Scratch<T> scratch(n, with_grid, 1);
  Suppression<T> suppression({boxes, order.data(), n, n}, threshold, with_grid, scratch.part(0), args.keep);
  return suppression.run(n < kParallelFrom ? 1 : args.num_threads);
}

// Images are separate: each is sorted and suppressed alone, until it has max_output boxes.
template <class T>
void run_padded(const NmsPaddedArgs& args, const T* boxes, std::size_t score_bytes) {
  const std::int64_t n = args.n, limit = args.max_output < n ? args.max_output : n;
  const Threshold<T> threshold = make_threshold<T>(args.iou_threshold);
  const int threads = args.batch * n < kParallelFrom ? 1 : fewer(args.batch, args.num_threads);
  const bool with_grid = limit >= kGridFrom<T> && wants_grid(n, threshold);
  Scratch<T> scratch(n, with_grid, threads);
  const std::size_t sort_bytes = order_scratch_bytes(args.dtype, n);
  Buffer<std::uint8_t> sort_scratch(static_cast<std::size_t>(threads) * sort_bytes);
  Buffer<std::int64_t> orders(static_cast<std::size_t>(threads * n));
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1)
  for (std::int64_t image = 0; image < args.batch; ++image) {
    const int part = thread_index();
    std::int64_t* const order = orders.data() + part * n;
    std::int64_t* const indices = args.indices + image * args.max_output;
    const char* const scores =
        static_cast<const char*>(args.scores) + static_cast<std::size_t>(image * n) * score_bytes;
    order_by_score(scores, args.dtype, n, order, sort_scratch.data() + part * sort_bytes, 1);
    std::int64_t kept = 0;
    if (threshold.value < 1) {
      Suppression<T> suppression({boxes + image * n * 4, order, n, limit}, threshold, with_grid, scratch.part(part),
                                 indices);
      kept = suppression.run(1);
    } else {
      for (; kept < limit; ++kept) indices[kept] = order[kept];
    }
    args.counts[image] = kept;
    for (; kept < args.max_output; ++kept) indices[kept] = -1;
  }
}

}  // namespace

std::int64_t nms(const NmsArgs& args) {
  return with_floating(args.dtype, [&](auto element) {
    const Widened<decltype(element)> boxes(static_cast<const decltype(element)*>(args.boxes), 4 * args.n);
    return run(args, boxes.data());
  });
}

void nms_padded(const NmsPaddedArgs& args) {
  with_floating(args.dtype, [&](auto element) {
    using S = decltype(element);
    const Widened<S> boxes(static_cast<const S*>(args.boxes), args.batch * args.n * 4);
    run_padded<Compute<S>>(args, boxes.data(), sizeof(S));
  });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
