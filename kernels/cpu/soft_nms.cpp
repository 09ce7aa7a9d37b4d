// Soft non-maximum suppression after Bodla et al., "Soft-NMS: Improving Object Detection With One Line of Code",
// ICCV 2017: select the box of the highest score, scale down the scores of all others by their overlap with it,
// and so on.
//
// Lazily: scores only fall, so a score that has not been scaled yet is an upper bound. A box is compared with
// the boxes selected since it was last looked at when its bound is the highest of all, and if its score is then
// still the highest, it is the next selected one. Each box meets each selected box at most once and in the order
// of selection, so every score is the product that the eager algorithm forms, bit for bit; but boxes that are
// never reached cost nothing beyond the sort, and the selected ones are tested as nms.cpp tests kept ones: as
// vectors in cache, with a multiplication-only screen ahead of the division. Bounds lie in a binary heap; those
// not looked at yet come from the sorted list.
//
// NaN: a score that is NaN is never selected; an IoU that is NaN (0 / 0, inf / inf, a NaN coordinate) counts as 0.
#include "soft_nms.hpp"

#include "activation.hpp"
#include "buffer.hpp"
#include "nms_boxes.hpp"
#include "sort.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

// A box that waits: its score after the first `met` selected boxes.
template <class T>
struct Waiting {
  T score;
  std::int64_t index, met;

  bool before(const Waiting& other) const {
    return score > other.score || (score == other.score && index < other.index);
  }
};

// Binary heap, the one to select next on top.
template <class T>
struct Heap {
  Waiting<T>* items;
  std::int64_t count = 0;

  void push(const Waiting<T>& item) {
    std::int64_t i = count++;
    for (; i > 0 && item.before(items[(i - 1) / 2]); i = (i - 1) / 2) items[i] = items[(i - 1) / 2];
    items[i] = item;
  }
  Waiting<T> pop() {
    const Waiting<T> top = items[0], last = items[--count];
    std::int64_t i = 0;
    for (std::int64_t child = 1; child < count; child = 2 * i + 1) {
      if (child + 1 < count && items[child + 1].before(items[child])) ++child;
      if (!items[child].before(last)) break;
      items[i] = items[child];
      i = child;
    }
    items[i] = last;
    return top;
  }
};

template <class T>
class Decay {
 public:
  explicit Decay(const SoftNmsArgs& args)
      : threshold_(make_threshold<T>(args.gaussian ? 0.0 : args.iou_threshold)),
        sigma_(broadcast(static_cast<T>(args.sigma))),
        gaussian_(args.gaussian) {}

  Box<T> box(const T* p) const {
    const T area = (p[2] - p[0]) * (p[3] - p[1]);
    return {p[0], p[1], p[2], p[3], area, threshold_.share_of(area)};
  }

  // The score after meeting the selected boxes from number `first` to `end`, or what has become of it when it
  // fell below `least`.
  T apply(const Box<T>& box, T score, const T* chunks, std::int64_t first, std::int64_t end, T least) const {
    const Query<T> query(box, threshold_);
    unsigned lanes = ~0u << (first % kLanes<T>);
    for (std::int64_t i = first / kLanes<T>; i * kLanes<T> < end; ++i, lanes = ~0u) {
      const T* chunk = chunks + i * kChunk<T>;
      unsigned hits = query.screen(chunk) & lanes;
      if (!hits) continue;
      T factors[kLanes<T>];
      store(factors, factor(query.overlap(chunk)));
      for (; hits; hits &= hits - 1) score *= factors[__builtin_ctz(hits)];
      if (!(score >= least)) break;
    }
    return score;
  }

 private:
  CVPERF_INLINE Vec<T> factor(Vec<T> overlap) const {
    const Vec<T> zero{}, one = broadcast(T(1));
    const Vec<T> scale = gaussian_ ? exp(-(overlap * overlap) / sigma_) : one - overlap;
    const Vec<T> meets = overlap > broadcast(threshold_.value) ? scale : one;
    return overlap > zero ? meets : one;
  }

  const Threshold<T> threshold_;
  const Vec<T> sigma_;
  const bool gaussian_;
};

// The least T that is not below x.
inline float round_up(double x, float) { return -round_down(-x, float()); }
inline double round_up(double x, double) { return x; }

template <class S, class T = Compute<S>>
std::int64_t select(const SoftNmsArgs& args, const T* boxes, const T* scores) {
  const std::int64_t n = args.n;
  const Decay<T> decay(args);
  const T least = round_up(args.score_threshold, T());
  Buffer<std::int64_t> order(static_cast<std::size_t>(n));
  Buffer<Waiting<T>> waiting(static_cast<std::size_t>(n));
  Buffer<T> chunks(static_cast<std::size_t>((args.limit / kLanes<T> + 1) * kChunk<T>));
  order_by_score(args.scores, args.dtype, n, order.data(), 1);
  Heap<T> heap{waiting.data()};
  std::int64_t fresh = 0, count = 0;
  while (fresh < n && scores[order[fresh]] != scores[order[fresh]]) ++fresh;  // NaN comes first
  while (count < args.limit) {
    Waiting<T> next{least, n, 0};  // after every box that may still be selected
    if (fresh < n) next = {scores[order[fresh]], order[fresh], 0};
    if (heap.count > 0 && heap.items[0].before(next)) {
      next = heap.pop();
    } else {
      ++fresh;
    }
    if (!(next.score >= least) || next.index == n) break;
    const Box<T> box = decay.box(boxes + 4 * next.index);
    next.score = decay.apply(box, next.score, chunks.data(), next.met, count, least);
    next.met = count;
    if (!(next.score >= least)) continue;
    const bool behind_fresh = fresh < n && !next.before({scores[order[fresh]], order[fresh], 0});
    if (behind_fresh || (heap.count > 0 && heap.items[0].before(next))) {
      heap.push(next);
      continue;
    }
    T* const chunk = chunks.data() + count / kLanes<T> * kChunk<T>;
    if (count % kLanes<T> == 0) clear_chunk(chunk);
    set_lane(chunk, static_cast<int>(count % kLanes<T>), box);
    args.indices[count] = next.index;
    static_cast<S*>(args.selected)[count++] = from_compute<S>(next.score);
  }
  return count;
}

}  // namespace

std::int64_t soft_nms(const SoftNmsArgs& args) {
  return with_floating(args.dtype, [&](auto element) {
    using S = decltype(element);
    const Widened<S> boxes(static_cast<const S*>(args.boxes), 4 * args.n);
    const Widened<S> scores(static_cast<const S*>(args.scores), args.n);
    return select<S>(args, boxes.data(), scores.data());
  });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
