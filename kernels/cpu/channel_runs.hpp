// Element-wise passes with parameters by channel: cut into runs whose parameters are either one number or lie in
// memory as the elements do, so that a pass is vectors from end to end whatever the layout.
#pragma once
#include "buffer.hpp"
#include "channel_view.hpp"
#include "streaming.hpp"

namespace cvperf {
namespace CVPERF_ISA {

constexpr std::int64_t kRunElements = 1024;       // of a repeated row of channels, at least
constexpr std::int64_t kPlaneElements = 8192;     // of a plane, at most
constexpr std::int64_t kAloneElements = 1 << 15;  // fewer than these take longer to share out than to compute

// The parameters of a call as runs read them: repeated to whole rows of channels where those are innermost (three
// channels fill no vector), and readable for a vector beyond the end.
template <class T>
class ChannelTable {
 public:
  // of(c) is the parameter of channel c.
  template <class Of>
  ChannelTable(const ChannelView& view, Of of) : memory_(size(view)) {
    T* const table = memory_.data();
    const std::int64_t count = static_cast<std::int64_t>(size(view));
    for (std::int64_t i = 0; i < count; ++i) table[i] = i < view.channels ? of(i) : table[i - view.channels];
  }
  const T* data() const { return memory_.data(); }

  // Elements of a run of whole rows of channels.
  static std::int64_t period(const ChannelView& view) {
    return view.channels * ((kRunElements + view.channels - 1) / view.channels);
  }

 private:
  static std::size_t size(const ChannelView& view) {
    return static_cast<std::size_t>((view.inner > 1 ? view.channels : period(view)) + 64);
  }
  Buffer<T, 256> memory_;
};

// Whether a run's elements have a parameter each, one after the other in its table, or one for all.
template <bool kEach>
struct Parameters {};

// work(first, count, channel, Parameters<...>{}) for every run of a view that is not empty: elements [first, first +
// count), whose parameters are at `channel` of a table.
template <class Work>
void for_each_run(const ChannelView& view, bool past_caches, int num_threads, const Work& work) {
  const std::int64_t elements = view.elements(), planes = view.outer * view.channels;
  const int threads = elements < kAloneElements ? 1 : num_threads;
  const std::int64_t period = ChannelTable<float>::period(view);
  // Whole rows of channels, cuts of a plane, or groups of small planes.
  const std::int64_t cuts = (view.inner + kPlaneElements - 1) / kPlaneElements;
  const std::int64_t group = cuts > 1 ? 1 : kPlaneElements / view.inner;
  const std::int64_t tasks = view.inner == 1 ? (elements + period - 1) / period : (planes + group - 1) / group * cuts;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
#pragma omp for schedule(static) nowait
    for (std::int64_t task = 0; task < tasks; ++task) {
      if (view.inner == 1) {
        const std::int64_t left = elements - task * period;
        work(task * period, left < period ? left : period, std::int64_t{0}, Parameters<true>{});
        continue;
      }
      const std::int64_t first = task / cuts * group, end = first + group < planes ? first + group : planes;
      const std::int64_t at = task % cuts * kPlaneElements, left = view.inner - at;
      std::int64_t channel = first % view.channels;
      for (std::int64_t plane = first; plane < end; ++plane) {
        work(plane * view.inner + at, left < kPlaneElements ? left : kPlaneElements, channel, Parameters<false>{});
        channel = channel + 1 < view.channels ? channel + 1 : 0;
      }
    }
    if (past_caches) settle_streams();
  }
}

// The parameters of a run, as vectors.
template <bool kEach, class T>
class Parameter {
 public:
  explicit CVPERF_INLINE Parameter(const T* table) : table_(table) {}
  CVPERF_INLINE Vec<T> at(std::int64_t i) const {
    Vec<T> v;
    __builtin_memcpy(&v, table_ + i, sizeof v);
    return v;
  }

 private:
  const T* table_;
};
template <class T>
class Parameter<false, T> {  // one number, read once: the compiler cannot know that the output is not over it
 public:
  explicit CVPERF_INLINE Parameter(const T* table) : value_(Vec<T>{} + *table) {}
  CVPERF_INLINE Vec<T> at(std::int64_t) const { return value_; }

 private:
  Vec<T> value_;
};

// A vector of elements, of which `left` are there.
template <class T>
CVPERF_INLINE Vec<Compute<T>> load_left(const T* from, std::int64_t left) {
  return left >= kLanes<Compute<T>> ? load(from) : load_partial(from, static_cast<int>(left));
}

// out[i] = at(i, left) for i < count: the vector of elements from i on, of which `left` are there.
template <class T, class At>
CVPERF_INLINE void write_run(T* out, std::int64_t count, bool past_caches, const At& at) {
  constexpr std::int64_t lanes = kLanes<Compute<T>>;
  std::int64_t i = 0;
  if constexpr (sizeof(T) == 4) {
    if (past_caches) {
      const std::int64_t past = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(out) / sizeof(T)) % lanes;
      const std::int64_t ahead = past ? lanes - past : 0;  // elements ahead of the first aligned vector
      if (ahead < count) {
        if (ahead) store_partial(out, at(0, ahead), static_cast<int>(ahead));
        for (i = ahead; i + lanes <= count; i += lanes) store_past_caches(out + i, at(i, lanes));
      }
    }
  }
  for (; i + lanes <= count; i += lanes) store(out + i, at(i, lanes));
  if (i < count) store_partial(out + i, at(i, count - i), static_cast<int>(count - i));
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
