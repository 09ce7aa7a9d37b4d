// Greedy suppression of boxes in a given order, in blocks. Part of nms.cpp, which has the design note.
#pragma once
#include "buffer.hpp"
#include "nms_grid.hpp"
#include "pages.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr int kUnroll = 4;  // chunks per step of the sweep
template <class T>
constexpr std::int64_t kBlock = 16 * kLanes<T>;  // boxes of a block
template <class T>
constexpr std::int64_t kGridFrom = 24 * kLanes<T>;  // kept boxes from which the grid pays
constexpr std::int64_t kGridCost = 4;               // chunks of the sweep in the time of one of the grid
constexpr std::int64_t kNever = std::int64_t{1} << 62;

// The kept boxes in one list, by rank.
template <class T>
struct KeptList {
  static constexpr std::int64_t kStep = kUnroll * kLanes<T>;
  T* chunks;
  std::int64_t count = 0;

  static std::int64_t reals_for(std::int64_t n) { return (n / kStep + 1) * kUnroll * kChunk<T>; }

  void insert(const Box<T>& box) {
    T* chunk = chunks + count / kLanes<T> * kChunk<T>;
    if (count % kStep == 0) {
      for (int i = 0; i < kUnroll; ++i) clear_chunk(chunk + i * kChunk<T>);
    }
    set_lane(chunk, static_cast<int>(count++ % kLanes<T>), box);
  }
  Box<T> box(std::int64_t i) const {
    const T* p = chunks + i / kLanes<T> * kChunk<T> + i % kLanes<T>;
    return {p[0], p[kLanes<T>], p[2 * kLanes<T>], p[3 * kLanes<T>], T(0), p[4 * kLanes<T>]};
  }

  // Whether a kept box from number `first` (rounded down to a step) on suppresses the query.
  template <bool kScreen>
  bool suppresses(const Query<T>& query, std::int64_t first) const {
    const T* const end = chunks + (count + kLanes<T> - 1) / kLanes<T> * kChunk<T>;
    for (const T* chunk = chunks + first / kStep * kUnroll * kChunk<T>; chunk < end; chunk += kUnroll * kChunk<T>) {
      if constexpr (kScreen) {
        unsigned hits = 0;
#pragma GCC unroll 4
        for (int i = 0; i < kUnroll; ++i) hits |= query.screen(chunk + i * kChunk<T>);
        if (!hits) continue;
      }
      for (int i = 0; i < kUnroll; ++i) {
        if (query.exact(chunk + i * kChunk<T>)) return true;
      }
    }
    return false;
  }
};

// What a block's first, parallel pass has found out about a box.
template <class T>
struct Candidate {
  Box<T> box;
  Home home;
  enum Fate : std::uint8_t { kSuppressed, kInert, kAlive } fate;  // inert: kept, but it suppresses nothing
  bool given_up;                                                  // the grid was asked in vain
};

// Scratch memory of suppressions of up to n boxes each, one for each of `parts` threads, allocated before they
// start.
template <class T>
class Scratch {
 public:
  struct Part {
    T *kept, *grid;
    std::int32_t* integers;
    Candidate<T>* candidates;
  };

  Scratch(std::int64_t n, bool with_grid, int parts)
      : kept_(KeptList<T>::reals_for(n)),
        grid_(with_grid ? Grid<T>::chunks_for(n) * kChunk<T> : 0),
        integers_size_(with_grid ? Grid<T>::integers_for(n) : 0),
        block_(n < kBlock<T> ? n : kBlock<T>),
        reals_(static_cast<std::size_t>(parts * (kept_ + grid_))),
        integers_(static_cast<std::size_t>(parts * integers_size_)),
        candidates_(static_cast<std::size_t>(parts * block_)) {
    prefer_huge_pages(reals_.data(), static_cast<std::size_t>(parts * (kept_ + grid_)) * sizeof(T));
  }

  Part part(int i) {
    T* reals = reals_.data() + i * (kept_ + grid_);
    return {reals, reals + kept_, integers_.data() + i * integers_size_, candidates_.data() + i * block_};
  }

 private:
  std::int64_t kept_, grid_, integers_size_, block_;
  Buffer<T> reals_;
  Buffer<std::int32_t> integers_;
  Buffer<Candidate<T>> candidates_;
};

// What to suppress.
template <class T>
struct Sequence {
  const T* boxes;              // [..., 4]
  const std::int64_t* order;   // [n]: the boxes' numbers, from the highest score to the lowest
  const std::int64_t* labels;  // [n]: what to write for each that stays
  std::int64_t n, limit;       // ends when this many are kept
};

// One run. Its members are shared by the threads: test() only reads them, settle() is called by one at a time.
template <class T>
class Suppression {
 public:
  // `keep` may be the memory of `labels`.
  Suppression(const Sequence<T>& boxes, const Threshold<T>& threshold, bool with_grid,
              const typename Scratch<T>::Part& scratch, std::int64_t* keep)
      : sequence_(boxes),
        threshold_(threshold),
        kept_{scratch.kept},
        grid_(boxes.n, scratch.grid, scratch.integers, double(threshold.value)),
        candidates_(scratch.candidates),
        keep_(keep),
        grid_from_(with_grid ? kGridFrom<T> : kNever) {
    plan(0);
  }

  // Returns the number of boxes kept.
  std::int64_t run(int threads) {
    if (grid_from_ < kNever) grid_from_ *= threads;  // which sweep that much faster
    if (threads <= 1) {
      while (more()) alone(sequence_.n);
      return written_;
    }
#pragma omp parallel num_threads(threads)
    while (more()) {
      const std::int64_t first = done_;
#pragma omp for schedule(static)
      for (std::int64_t i = first; i < shared_end_; ++i) test(i, candidates_[i - first]);
#pragma omp master  // not `single`: the kept boxes stay in one core's cache
      {
        if (shared_end_ > first) {
          settle_block();
        } else {
          alone(first + 8 * kBlock<T>);
        }
        plan(first);
      }
#pragma omp barrier
    }
    return written_;
  }

 private:
  bool more() const { return done_ < sequence_.n && written_ < sequence_.limit; }
  std::int64_t least(std::int64_t a, std::int64_t b) const { return a < b ? a : b; }

  // Suppresses up to number `end` by one thread, or until the grid is dropped.
  void alone(std::int64_t end) {
    const std::int64_t stop = least(end, sequence_.n);
    const bool had_grid = has_grid_;
    for (; done_ < stop && more() && has_grid_ >= had_grid; ++done_) {
      test(done_, candidates_[0]);
      settle(done_, candidates_[0]);
    }
  }

  // Decides who takes the next boxes. Where the grid answers and most boxes are kept, filing them is half the
  // work, and one thread does that best by itself: another would fetch each new box from its cache.
  void plan(std::int64_t first) {
    const bool mostly_kept = kept_.count - kept_before_ > (done_ - first) / 2;
    kept_before_ = kept_.count;
    shared_end_ = mostly_kept && has_grid_ ? done_ : least(done_ + kBlock<T>, sequence_.n);
  }

  // Tests a box against the boxes kept of earlier blocks.
  void test(std::int64_t i, Candidate<T>& candidate) const {
    constexpr std::int64_t kAhead = 8;
    if (i + kAhead < sequence_.n) __builtin_prefetch(sequence_.boxes + 4 * sequence_.order[i + kAhead]);
    const T* p = sequence_.boxes + 4 * sequence_.order[i];
    const T area = (p[2] - p[0]) * (p[3] - p[1]);
    const Box<T> box{p[0], p[1], p[2], p[3], area, threshold_.share_of(area)};
    candidate.box = box;
    candidate.given_up = false;
    candidate.home.level = -1;
    if (!(threshold_.value < 0) && !(box.x2 > box.x1 && box.y2 > box.y1 && area > 0 && area < T(__builtin_inf()))) {
      candidate.fate = Candidate<T>::kInert;
      return;
    }
    candidate.fate = suppressed(candidate) ? Candidate<T>::kSuppressed : Candidate<T>::kAlive;
  }

  bool suppressed(Candidate<T>& candidate) const {
    if (kept_.count == 0) return false;
    const Query<T> query(candidate.box, threshold_);
    if (has_grid_) {
      const Place place = grid_.locate(candidate.box);
      candidate.home = place.home;
      if (place.home.level >= 0) {
        const Found found = grid_.search(query, place, most_chunks());
        if (found != Found::given_up) return found == Found::yes;
        candidate.given_up = true;
      }
    }
    return sweep(query, 0);
  }

  bool sweep(const Query<T>& query, std::int64_t first) const {
    if (threshold_.value < 0) return kept_.template suppresses<false>(query, first);
    return kept_.template suppresses<true>(query, first);
  }

  // Settles the boxes of a block one by one, by those kept before them in it.
  void settle_block() {
    const std::int64_t first = done_, known = kept_.count;
    for (; done_ < shared_end_ && more(); ++done_) {
      Candidate<T>& candidate = candidates_[done_ - first];
      if (candidate.fate == Candidate<T>::kAlive && kept_.count > known &&
          sweep(Query<T>(candidate.box, threshold_), known)) {
        candidate.fate = Candidate<T>::kSuppressed;
      }
      settle(done_, candidate);
    }
  }

  // Keeps the box unless it is suppressed.
  void settle(std::int64_t i, const Candidate<T>& candidate) {
    if (has_grid_) judge_grid(candidate.given_up);
    if (candidate.fate == Candidate<T>::kSuppressed) return;
    keep_[written_++] = sequence_.labels[i];
    if (candidate.fate == Candidate<T>::kInert) return;
    kept_.insert(candidate.box);
    if (has_grid_) {
      file(candidate.box, candidate.home.level >= 0 ? candidate.home : grid_.locate(candidate.box).home);
    } else if (kept_.count >= grid_from_ && sequence_.n - i > kept_.count / 4) {
      start_grid();
    }
  }

  // Files all kept boxes, if that seems worth it for those to come.
  void start_grid() {
    constexpr int kSample = 32;
    Box<T> sample[kSample];
    for (int i = 0; i < kSample; ++i) sample[i] = kept_.box(kept_.count * i / kSample);
    if (!grid_.promises(sample, kept_.count, most_chunks())) {
      grid_from_ = kept_.count + kept_.count / 2;
      return;
    }
    has_grid_ = true;
    failures_ = 0;
    grid_.clear();
    for (std::int64_t i = 0; i < kept_.count && has_grid_; ++i) file(kept_.box(i), grid_.locate(kept_.box(i)).home);
  }

  // How many chunks a search of the grid may visit before a sweep would be faster.
  std::int64_t most_chunks() const { return kept_.count / (kGridCost * kLanes<T>); }

  // Every later box must be tested against a box that has no place: no grid any more.
  void file(const Box<T>& box, Home home) {
    if (home.level >= 0) {
      grid_.insert(box, home);
    } else {
      has_grid_ = false;
      grid_from_ = kNever;
    }
  }

  // Where more than half of the boxes ask the grid in vain, there is none until four times as many are kept.
  void judge_grid(bool given_up) {
    failures_ = given_up ? failures_ + 1 : failures_ > 0 ? failures_ - 1 : 0;
    if (failures_ < 64) return;
    has_grid_ = false;
    grid_from_ = 4 * kept_.count;
  }

  const Sequence<T> sequence_;
  const Threshold<T> threshold_;
  KeptList<T> kept_;
  Grid<T> grid_;
  Candidate<T>* const candidates_;
  std::int64_t* const keep_;
  std::int64_t grid_from_;  // the number of kept boxes from which there is a grid
  std::int64_t written_ = 0;
  std::int64_t done_ = 0, shared_end_ = 0, kept_before_ = 0;  // boxes settled; up to where threads test together
  std::int64_t failures_ = 0;
  bool has_grid_ = false;
};

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf
