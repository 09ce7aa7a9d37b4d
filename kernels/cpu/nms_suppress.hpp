// Greedy suppression of boxes in a given order. Part of nms.cpp, which has the design note.
#pragma once
#include "buffer.hpp"
#include "nms_grid.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr int kUnroll = 4;                               // chunks per step of the sweep
constexpr std::int64_t kTeamFrom = 1024;                 // kept boxes from which threads join
constexpr std::int64_t kParallelFrom = 2000;             // boxes
constexpr std::int64_t kMostBlock = 8192, kAlone = 512;  // boxes that threads test together; that one takes alone
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
  CVPERF_INLINE bool suppresses(const Query<T>& query, std::int64_t first) const {
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

// What the first test of a box has found out.
template <class T>
struct Candidate {
  Box<T> box;
  Home home;
  enum Fate : std::uint8_t { kSuppressed, kInert, kAlive } fate;  // inert: kept, but it suppresses nothing
  bool given_up;                                                  // the grid was asked in vain
};

// Scratch memory of `parts` suppressions at a time of up to n boxes each, allocated before threads start. A single
// one may use several threads, those of several use one each.
template <class T>
class Scratch {
 public:
  struct Part {
    T *kept, *grid;
    std::int32_t* integers;
    Candidate<T>* candidates;  // of a block: only for a single suppression
  };

  Scratch(std::int64_t n, bool with_grid, int parts)
      : kept_(KeptList<T>::reals_for(n)),
        grid_(with_grid ? Grid<T>::chunks_for(n) * kChunk<T> : 0),
        integers_size_(with_grid ? Grid<T>::integers_for(n) : 0),
        block_(parts > 1 || n < kParallelFrom ? 0
               : n < kMostBlock               ? n
                                              : kMostBlock),
        reals_(static_cast<std::size_t>(parts * (kept_ + grid_))),
        integers_(static_cast<std::size_t>(parts * integers_size_)),
        candidates_(static_cast<std::size_t>(block_)) {}

  Part part(int i) {
    T* reals = reals_.data() + i * (kept_ + grid_);
    return {reals, reals + kept_, integers_.data() + i * integers_size_, candidates_.data()};
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
  const T* boxes;             // [..., 4]
  const std::int64_t* order;  // [n]: the boxes' numbers, from the highest score to the lowest
  std::int64_t n, limit;      // ends when this many are kept
};

// One run. Its members are shared by the threads: test() only reads them, settle() is called by one at a time.
template <class T>
class Suppression {
 public:
  // `keep` may be the memory of `order`.
  Suppression(const Sequence<T>& boxes, const Threshold<T>& threshold, bool with_grid,
              const typename Scratch<T>::Part& scratch, std::int64_t* keep)
      : sequence_(boxes),
        threshold_(threshold),
        kept_{scratch.kept},
        grid_(boxes.n, scratch.grid, scratch.integers, double(threshold.value)),
        candidates_(scratch.candidates),
        keep_(keep),
        grid_from_(with_grid ? kGridFrom<T> : kNever) {}

  // Returns the number of boxes kept.
  std::int64_t run(int threads) {
    threads_ = threads;
    while (more()) {
      const std::int64_t block = threads > 1 ? block_for_team() : 0;
      if (block == 0) {
        alone(threads > 1 ? done_ + kAlone : sequence_.n);
        continue;
      }
      const std::int64_t first = done_;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 64)
      for (std::int64_t i = first; i < first + block; ++i) test(i, candidates_[i - first]);
      settle_block(first + block);
    }
    return written_;
  }

 private:
  bool more() const { return done_ < sequence_.n && written_ < sequence_.limit; }

  // Suppresses up to number `end` by one thread, or until the grid is dropped.
  void alone(std::int64_t end) {
    const std::int64_t stop = end < sequence_.n ? end : sequence_.n;
    const bool had_grid = has_grid_;
    const std::int64_t before = kept_.count, first = done_;
    for (; done_ < stop && more() && has_grid_ >= had_grid; ++done_) {
      Candidate<T> candidate;  // of this thread's stack: those of two threads must not share a cache line
      test(done_, candidate);
      settle(done_, candidate);
    }
    mostly_kept_ = kept_.count - before > (done_ - first) / 2;
  }

  // How many of the next boxes are worth waking the other threads for; 0: none. Each block ends with all threads
  // waiting for the last, which on a busy machine takes milliseconds, so blocks are few: they grow with the kept
  // boxes. Not where the grid answers and most boxes are kept: filing them is half the work there, and each new
  // box would be fetched from the cache of the thread that filed it.
  std::int64_t block_for_team() const {
    constexpr std::int64_t kTeamWork = 80000, kSearch = 32;  // chunks; a search of the grid counts as 32
    if (kept_.count < kTeamFrom || (has_grid_ && mostly_kept_)) return 0;
    const std::int64_t worth = kTeamWork / (has_grid_ ? kSearch : kept_.count / kLanes<T>);
    std::int64_t block = worth > kept_.count / 4 ? worth : kept_.count / 4;
    block = block < kMostBlock ? block : kMostBlock;
    block = block < sequence_.n - done_ ? block : sequence_.n - done_;
    return worth <= block && block <= kept_.count ? block : 0;
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

  CVPERF_INLINE bool sweep(const Query<T>& query, std::int64_t first) const {
    if (threshold_.value < 0) return kept_.template suppresses<false>(query, first);
    return kept_.template suppresses<true>(query, first);
  }

  // Settles the boxes up to number `end` one by one, by those kept before them in their block.
  void settle_block(std::int64_t end) {
    const std::int64_t first = done_, known = kept_.count;
    for (; done_ < end && more(); ++done_) {
      Candidate<T>& candidate = candidates_[done_ - first];
      if (candidate.fate == Candidate<T>::kAlive && kept_.count > known &&
          sweep(Query<T>(candidate.box, threshold_), known)) {
        candidate.fate = Candidate<T>::kSuppressed;
      }
      settle(done_, candidate);
    }
    mostly_kept_ = kept_.count - known > (end - first) / 2;
  }

  // Keeps the box unless it is suppressed.
  void settle(std::int64_t i, const Candidate<T>& candidate) {
    if (has_grid_) judge_grid(candidate.given_up);
    if (candidate.fate == Candidate<T>::kSuppressed) return;
    keep_[written_++] = sequence_.order[i];
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

  // How many chunks a search of the grid may visit before a sweep would be faster. From kTeamFrom on all threads
  // sweep, while one may have to search alone; half of their advantage is counted, between the two cases.
  std::int64_t most_chunks() const {
    return 2 * kept_.count / (kGridCost * kLanes<T> * (kept_.count < kTeamFrom ? 2 : 1 + threads_));
  }

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
  std::int64_t done_ = 0;  // boxes settled
  std::int64_t failures_ = 0;
  int threads_ = 1;
  bool has_grid_ = false, mostly_kept_ = false;
};

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf
