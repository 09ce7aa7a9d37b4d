// Radix sort, least significant digit first: one counting pass gives the histograms of all digits, then each
// digit costs one pass, and a digit that all keys share (the exponent of scores in one octave, the low half
// of a widened bfloat16) costs none. Stable by construction, so ties need no index in the key.
//
// Several threads sort a run of the items each, then runs are merged in pairs, each thread its share of the output:
// where that begins in either run is found by bisection. The order is unique, so the number of threads does not show.
// Scattering into one output by all threads would move most of its cache lines from core to core instead.
// Source of the merge: Odeh, Green et al., "Merge Path - Parallel Merging Made Simple", 2012.
#include "sort.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

namespace cvperf {
namespace {

// Keys order unsigned and ascending as scores do descending: NaN is 0, then +inf ... -inf.
std::uint32_t descending_key(float score) {
  if (score != score) return 0;
  score += 0.0f;  // -0 becomes +0
  std::uint32_t bits;
  std::memcpy(&bits, &score, 4);
  return bits & 0x80000000u ? bits : 0x7fffffffu - bits;
}

std::uint64_t descending_key(double score) {
  if (score != score) return 0;
  score += 0.0;
  std::uint64_t bits;
  std::memcpy(&bits, &score, 8);
  return bits >> 63 ? bits : 0x7fffffffffffffffu - bits;
}

// Half types: the same map on 16 bits, in the upper half of the key; the lower digits are skipped.
std::uint32_t descending_key_16(std::uint32_t bits, std::uint32_t infinity) {
  if ((bits & 0x7fffu) > infinity) return 0;
  if (bits == 0x8000u) bits = 0;
  return (bits & 0x8000u ? bits : 0x7fffu - bits) << 16;
}
std::uint32_t descending_key(half score) { return descending_key_16(score.bits, 0x7c00u); }
std::uint32_t descending_key(bfloat16 score) { return descending_key_16(score.bits, 0x7f80u); }

// A 32-bit key with its index in one word: sorting words by the upper half sorts the pairs.
struct Packed {
  std::uint64_t word;
  std::uint64_t key() const { return word >> 32; }
  std::int64_t index() const { return static_cast<std::int64_t>(word & 0xffffffffu); }
  static constexpr int kKeyBits = 32;
};
struct Wide {
  std::uint64_t bits;
  std::int64_t position;
  std::uint64_t key() const { return bits; }
  std::int64_t index() const { return position; }
  static constexpr int kKeyBits = 64;
};

template <class Item>
void insertion_sort(Item* items, std::int64_t n) {
  for (std::int64_t i = 1; i < n; ++i) {
    const Item item = items[i];
    std::int64_t j = i;
    for (; j > 0 && items[j - 1].key() > item.key(); --j) items[j] = items[j - 1];
    items[j] = item;
  }
}

// Sorts the items by key and writes their indices; `items` and `spare` are scratch afterwards. If `indices` is null,
// leaves the items sorted in one of the two and returns which. Count holds n.
template <int kDigitBits, class Count, class Item>
Item* radix_sort(Item* items, Item* spare, std::int64_t n, std::int64_t* indices) {
  constexpr int kDigits = (Item::kKeyBits + kDigitBits - 1) / kDigitBits;
  constexpr std::size_t kValues = std::size_t{1} << kDigitBits;
  Count counts[kDigits][kValues] = {};
  for (std::int64_t i = 0; i < n; ++i) {
    std::uint64_t key = items[i].key();
    for (int d = 0; d < kDigits; ++d, key >>= kDigitBits) ++counts[d][key % kValues];
  }
  int last = kDigits - 1;  // the last digit that differs among the keys: its pass writes the indices
  const auto same = [&](int d) { return counts[d][(items[0].key() >> (d * kDigitBits)) % kValues] == Count(n); };
  while (last >= 0 && same(last)) --last;
  for (int d = 0; d <= last; ++d) {
    if (same(d)) continue;
    const int shift = d * kDigitBits;
    Count* const place = counts[d];
    Count sum = 0;
    for (std::size_t v = 0; v < kValues; ++v) sum += std::exchange(place[v], sum);
    if (d == last && indices) {
      for (std::int64_t i = 0; i < n; ++i) {
        indices[place[(items[i].key() >> shift) % kValues]++] = items[i].index();
      }
    } else {
      for (std::int64_t i = 0; i < n; ++i) spare[place[(items[i].key() >> shift) % kValues]++] = items[i];
      std::swap(items, spare);
    }
  }
  if (last < 0 && indices) {
    for (std::int64_t i = 0; i < n; ++i) indices[i] = items[i].index();
  }
  return items;
}

constexpr std::int64_t kFew = 64, kMany = 6000;  // wider digits: fewer passes, larger histograms

template <class Item>
std::size_t scratch_for(std::int64_t n) {
  return n > kFew ? 2 * static_cast<std::size_t>(n) * sizeof(Item) : 0;
}

template <class Item>
Item* radix_sort(Item* items, Item* spare, std::int64_t n, std::int64_t* indices) {
  if (n < kMany) return radix_sort<8, std::uint32_t>(items, spare, n, indices);
  if (n < (std::int64_t{1} << 32)) return radix_sort<11, std::uint32_t>(items, spare, n, indices);
  return radix_sort<11, std::uint64_t>(items, spare, n, indices);
}

// Sorts the n items that make(i) yields by key and writes their indices.
template <class Item, class Make>
void sort_indices(std::int64_t n, Make make, std::int64_t* indices, void* scratch) {
  Item few[kFew];
  Item* items = n > kFew ? static_cast<Item*>(scratch) : few;
  for (std::int64_t i = 0; i < n; ++i) items[i] = make(i);
  if (n <= kFew) {
    insertion_sort(items, n);
    for (std::int64_t i = 0; i < n; ++i) indices[i] = items[i].index();
  } else {
    radix_sort(items, items + n, n, indices);
  }
}

// Two sorted runs; of equal keys, those of `a` come first.
template <class Item>
struct Runs {
  const Item *a, *b;
  std::int64_t a_count, b_count;

  // How many of the first k are from `a`.
  std::int64_t from_a(std::int64_t k) const {
    std::int64_t low = std::max(k - b_count, std::int64_t{0}), high = std::min(k, a_count);
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      if (b[k - middle - 1].key() < a[middle].key())
        high = middle;
      else
        low = middle + 1;
    }
    return low;
  }

  // put(k, item) of those from number `begin` to `end`.
  template <class Put>
  void merge(std::int64_t begin, std::int64_t end, Put put) const {
    const std::int64_t i = from_a(begin), i_end = from_a(end);
    const Item *p = a + i, *q = b + (begin - i);
    const Item *const p_end = a + i_end, *const q_end = b + (end - i_end);
    std::int64_t k = begin;
    for (; p < p_end && q < q_end; ++k) {  // without a branch on the keys, which nobody could predict
      const bool second = q->key() < p->key();
      put(k, second ? *q : *p);
      p += !second;
      q += second;
    }
    for (; p < p_end; ++k) put(k, *p++);
    for (; q < q_end; ++k) put(k, *q++);
  }
};

constexpr std::int64_t kRun = 8192;  // items from which a run is worth a thread

// The same by `threads` threads, which is more than one and at most n.
template <class Item, class Make>
void sort_indices_by(int threads, std::int64_t n, Make make, std::int64_t* indices, void* scratch) {
  Item *items = static_cast<Item*>(scratch), *spare = items + n;
  const auto bound = [=](std::int64_t run) { return n * std::min<std::int64_t>(run, threads) / threads; };
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int t = 0; t < threads; ++t) {
    const std::int64_t begin = bound(t), count = bound(t + 1) - begin;
    for (std::int64_t i = begin; i < begin + count; ++i) items[i] = make(i);
    if (radix_sort(items + begin, spare + begin, count, nullptr) != items + begin)
      std::copy_n(spare + begin, count, items + begin);
  }
  for (int width = 1; width < threads; width *= 2, std::swap(items, spare)) {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int t = 0; t < threads; ++t) {
      for (int run = 0; run < threads; run += 2 * width) {
        const std::int64_t first = bound(run), middle = bound(run + width), last = bound(run + 2 * width);
        const std::int64_t begin = std::max(bound(t), first) - first, end = std::min(bound(t + 1), last) - first;
        if (begin >= end) continue;
        const Runs<Item> runs{items + first, items + middle, middle - first, last - middle};
        if (2 * width < threads)
          runs.merge(begin, end, [to = spare + first](std::int64_t k, const Item& item) { to[k] = item; });
        else
          runs.merge(begin, end, [to = indices + first](std::int64_t k, const Item& item) { to[k] = item.index(); });
      }
    }
  }
}

bool fits_packed(std::size_t key_bytes, std::int64_t n) { return key_bytes == 4 && n < (std::int64_t{1} << 32); }

template <class Score>
void order_of(const Score* scores, std::int64_t n, std::int64_t* order, void* scratch, int threads) {
  if (fits_packed(sizeof(descending_key(Score{})), n)) {
    const auto make = [scores](std::int64_t i) {
      return Packed{std::uint64_t{descending_key(scores[i])} << 32 | static_cast<std::uint64_t>(i)};
    };
    threads = static_cast<int>(std::min<std::int64_t>(threads, n / kRun));
    if (threads > 1) return sort_indices_by<Packed>(threads, n, make, order, scratch);
    sort_indices<Packed>(n, make, order, scratch);
  } else {
    sort_indices<Wide>(n, [scores](std::int64_t i) { return Wide{descending_key(scores[i]), i}; }, order, scratch);
  }
}

}  // namespace

std::size_t order_scratch_bytes(DType dtype, std::int64_t n) {
  return fits_packed(dtype == DType::f64 ? 8 : 4, n) ? scratch_for<Packed>(n) : scratch_for<Wide>(n);
}

void order_by_score(const void* scores, DType dtype, std::int64_t n, std::int64_t* order, void* scratch, int threads) {
  switch (dtype) {
    case DType::f16:
      return order_of(static_cast<const half*>(scores), n, order, scratch, threads);
    case DType::bf16:
      return order_of(static_cast<const bfloat16*>(scores), n, order, scratch, threads);
    case DType::f64:
      return order_of(static_cast<const double*>(scores), n, order, scratch, threads);
    default:
      return order_of(static_cast<const float*>(scores), n, order, scratch, threads);
  }
}

void order_by_score(const void* scores, DType dtype, std::int64_t n, std::int64_t* order, int threads) {
  const std::unique_ptr<char[]> scratch(new char[order_scratch_bytes(dtype, n)]);
  order_by_score(scores, dtype, n, order, scratch.get(), threads);
}

std::int64_t group_by_class(const std::int64_t* classes, const std::int64_t* order, std::int64_t n,
                            std::int64_t* members, std::int64_t* starts) {
  if (n == 0) return 0;
  std::int64_t low = classes[0], high = classes[0];
  for (std::int64_t i = 1; i < n; ++i) {
    low = std::min(low, classes[i]);
    high = std::max(high, classes[i]);
  }
  const std::uint64_t first = static_cast<std::uint64_t>(low);  // unsigned: differences cannot overflow
  const std::uint64_t range = static_cast<std::uint64_t>(high) - first;
  const auto key = [=](std::int64_t box) { return static_cast<std::uint64_t>(classes[box]) - first; };
  std::int64_t groups = 0;
  if (range < 2 * static_cast<std::uint64_t>(n) + 256) {  // labels: a counting sort
    const auto place = std::make_unique<std::int64_t[]>(range + 1);
    for (std::int64_t i = 0; i < n; ++i) ++place[key(i)];
    std::int64_t sum = 0;
    for (std::uint64_t c = 0; c <= range; ++c) {
      const std::int64_t count = std::exchange(place[c], sum);
      if (count) starts[groups++] = sum;
      sum += count;
    }
    for (std::int64_t rank = 0; rank < n; ++rank) members[place[key(order[rank])]++] = order[rank];
  } else {  // any 64-bit ids
    const std::unique_ptr<char[]> scratch(new char[scratch_for<Wide>(n)]);
    sort_indices<Wide>(n, [&](std::int64_t rank) { return Wide{key(order[rank]), rank}; }, members, scratch.get());
    for (std::int64_t i = 0; i < n; ++i) {
      members[i] = order[members[i]];
      if (i == 0 || key(members[i]) != key(members[i - 1])) starts[groups++] = i;
    }
  }
  starts[groups] = n;
  return groups;
}

}  // namespace cvperf
