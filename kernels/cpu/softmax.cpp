// Softmax and its logarithm over the middle of [outer, count, inner].
//
// Idea: a block of columns at a time, with a softmax in each lane and the block in a cache as floats: the maximum, the
// sum of the exponentials, the quotient. Where the numbers of a softmax lie one after the other (inner is 1: classes of
// a classifier, a class map in channels-last) and are few, a block is transposed on the way in and out; of many, a
// softmax is all the lanes of its own row. No softmax is shared between threads, and sums are in one order.
//
// Roofline: an exponential (some 15 operations) for each element, from where they lie in a cache.
#include "softmax.hpp"

#include "activation.hpp"
#include "channel_runs.hpp"
#include "shuffle.hpp"
#include "thread_index.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kFew = 64;                   // numbers of a softmax, below which they are transposed
constexpr std::int64_t kWidth = 4 * kLanes<float>;  // columns of a block that lie side by side in memory
constexpr std::int64_t kLeastElements = 1 << 13;    // fewer than these take longer to share out than to compute

// Columns [0, kLanes) of a block whose rows are `pitch` apart, in place.
void softmax_lanes(float* block, std::int64_t count, std::int64_t pitch, bool logarithm) {
  Vec<float> highest = load(block), sum{};
  for (std::int64_t i = 1; i < count; ++i) highest = max(highest, load(block + i * pitch));
  for (std::int64_t i = 0; i < count; ++i) {
    float* const at = block + i * pitch;
    const Vec<float> e = exp(load(at) - highest);
    if (!logarithm) store(at, e);
    sum += e;
  }
  if (logarithm)
    for (int lane = 0; lane < kLanes<float>; ++lane) sum[lane] = __builtin_logf(sum[lane]);
  const Vec<float> inverse = 1.0f / sum;
  for (std::int64_t i = 0; i < count; ++i) {
    float* const at = block + i * pitch;
    store(at, logarithm ? load(at) - highest - sum : load(at) * inverse);
  }
}

template <class T>
void columns_side_by_side(const T* from, std::int64_t count, std::int64_t inner, std::int64_t width, float* block,
                          bool logarithm, T* to) {
  constexpr int lanes = kLanes<float>;
  for (std::int64_t i = 0; i < count; ++i)
    for (std::int64_t c = 0; c < width; c += lanes)
      store(block + i * kWidth + c, load_left(from + i * inner + c, width - c));
  for (std::int64_t c = 0; c < width; c += lanes) softmax_lanes(block + c, count, kWidth, logarithm);
  for (std::int64_t i = 0; i < count; ++i)
    write_run(to + i * inner, width, false, [&](std::int64_t c, std::int64_t) __attribute__((always_inline)) {
      return load(block + i * kWidth + c);
    });
}

template <class T>
void few_numbers(const T* from, std::int64_t rows, std::int64_t count, float* block, bool logarithm, T* to) {
  constexpr int lanes = kLanes<float>;
  transpose_block<true>(from, count, rows, count, block, lanes);
  softmax_lanes(block, count, lanes, logarithm);
  transpose_block<false>(block, lanes, count, rows, to, count);
}

CVPERF_INLINE float sum_of_lanes(Vec<float> v) {
  float sum = 0.0f;
  for (int lane = 0; lane < kLanes<float>; ++lane) sum += v[lane];
  return sum;
}

template <class T>
void many_numbers(const T* from, std::int64_t count, float* row, bool logarithm, T* to) {
  constexpr int lanes = kLanes<float>;
  // `count` is at least a vector: the last one may take numbers twice, which a maximum does not mind.
  Vec<float> highest = load(from + count - lanes), sum{};
  for (std::int64_t i = 0; i + lanes <= count; i += lanes) highest = max(highest, load(from + i));
  float top = highest[0];
  for (int lane = 1; lane < lanes; ++lane) top = top > highest[lane] ? top : highest[lane];
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const Vec<float> e = exp(load(from + i) - top);
    store(row + i, e);
    sum += e;
  }
  float rest = 0.0f;
  if (i < count) {
    const int left = static_cast<int>(count - i);
    const Vec<float> e = exp(load_partial(from + i, left) - top);
    store_partial(row + i, e, left);
    for (int lane = 0; lane < left; ++lane) rest += e[lane];
  }
  const float total = sum_of_lanes(sum) + rest, offset = logarithm ? __builtin_logf(total) : 1.0f / total;
  write_run(to, count, false, [&](std::int64_t at, std::int64_t left) __attribute__((always_inline)) {
    return logarithm ? load_left(from + at, left) - top - offset : load_left(row + at, left) * offset;
  });
}

template <class T>
void softmax_all(const SoftmaxArgs& args) {
  constexpr std::int64_t lanes = kLanes<float>;
  const std::int64_t count = args.count, inner = args.inner;
  const bool side_by_side = inner > 1, few = !side_by_side && count < kFew;
  const std::int64_t width = side_by_side ? kWidth : few ? lanes : 1;  // softmaxes of a task
  const std::int64_t across = side_by_side ? (inner + width - 1) / width : 1;
  const std::int64_t tasks = side_by_side ? args.outer * across : (args.outer + width - 1) / width;
  const int threads = args.outer * count * inner < kLeastElements ? 1 : args.num_threads;
  const std::int64_t each = (count * width + lanes + 15) / 16 * 16;
  Buffer<float> memory(static_cast<std::size_t>(each * threads));
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (std::int64_t task = 0; task < tasks; ++task) {
    float* const block = memory.data() + each * thread_index();
    const std::int64_t column = side_by_side ? task % across * width : 0;
    const std::int64_t first = side_by_side ? task / across * count * inner + column : task * width * count;
    const std::int64_t there = side_by_side ? inner - column : args.outer - task * width;
    const T* const from = static_cast<const T*>(args.input) + first;
    T* const to = static_cast<T*>(args.output) + first;
    if (side_by_side)
      columns_side_by_side(from, count, inner, there < width ? there : width, block, args.logarithm, to);
    else if (few)
      few_numbers(from, there < width ? there : width, count, block, args.logarithm, to);
    else
      many_numbers(from, count, block, args.logarithm, to);
  }
}

}  // namespace

void softmax(const SoftmaxArgs& args) {
  if (args.outer * args.count * args.inner == 0) return;
  with_float(args.dtype, [&](auto type) { softmax_all<decltype(type)>(args); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
