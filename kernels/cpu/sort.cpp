// Radix sort, least significant digit first: one counting pass gives the histograms of all digits, then each
// digit costs one pass, and a digit that all keys share (the exponent of scores in one octave, the low half
// of a widened bfloat16) costs none. Stable by construction, so ties need no index in the key.
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

// Writes the indices of the items sorted by key; `items` and `spare` are scratch afterwards. Count holds n.
template <int kDigitBits, class Count, class Item>
void radix_sort(Item* items, Item* spare, std::int64_t n, std::int64_t* indices) {
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
    if (d == last) {
      for (std::int64_t i = 0; i < n; ++i) {
        indices[place[(items[i].key() >> shift) % kValues]++] = items[i].index();
      }
    } else {
      for (std::int64_t i = 0; i < n; ++i) spare[place[(items[i].key() >> shift) % kValues]++] = items[i];
      std::swap(items, spare);
    }
  }
  if (last < 0) {
    for (std::int64_t i = 0; i < n; ++i) indices[i] = items[i].index();
  }
}

constexpr std::int64_t kFew = 64, kMany = 20000;  // wider digits: fewer passes, larger histograms

template <class Item>
std::size_t scratch_for(std::int64_t n) {
  return n > kFew ? 2 * static_cast<std::size_t>(n) * sizeof(Item) : 0;
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
  } else if (n < kMany) {
    radix_sort<8, std::uint32_t>(items, items + n, n, indices);
  } else if (n < (std::int64_t{1} << 32)) {
    radix_sort<11, std::uint32_t>(items, items + n, n, indices);
  } else {
    radix_sort<11, std::uint64_t>(items, items + n, n, indices);
  }
}

bool fits_packed(std::size_t key_bytes, std::int64_t n) { return key_bytes == 4 && n < (std::int64_t{1} << 32); }

template <class Score>
void order_of(const Score* scores, std::int64_t n, std::int64_t* order, void* scratch) {
  if (fits_packed(sizeof(descending_key(Score{})), n)) {
    const auto make = [scores](std::int64_t i) {
      return Packed{std::uint64_t{descending_key(scores[i])} << 32 | static_cast<std::uint64_t>(i)};
    };
    sort_indices<Packed>(n, make, order, scratch);
  } else {
    sort_indices<Wide>(n, [scores](std::int64_t i) { return Wide{descending_key(scores[i]), i}; }, order, scratch);
  }
}

}  // namespace

std::size_t order_scratch_bytes(DType dtype, std::int64_t n) {
  return fits_packed(dtype == DType::f64 ? 8 : 4, n) ? scratch_for<Packed>(n) : scratch_for<Wide>(n);
}

void order_by_score(const void* scores, DType dtype, std::int64_t n, std::int64_t* order, void* scratch) {
  switch (dtype) {
    case DType::f16:
      return order_of(static_cast<const half*>(scores), n, order, scratch);
    case DType::bf16:
      return order_of(static_cast<const bfloat16*>(scores), n, order, scratch);
    case DType::f64:
      return order_of(static_cast<const double*>(scores), n, order, scratch);
    default:
      return order_of(static_cast<const float*>(scores), n, order, scratch);
  }
}

void order_by_score(const void* scores, DType dtype, std::int64_t n, std::int64_t* order) {
  const std::unique_ptr<char[]> scratch(new char[order_scratch_bytes(dtype, n)]);
  order_by_score(scores, dtype, n, order, scratch.get());
}

std::int64_t group_by_class(const std::int64_t* classes, const std::int64_t* order, std::int64_t n, std::int64_t* ranks,
                            std::int64_t* starts) {
  if (n == 0) return 0;
  std::int64_t low = classes[0], high = classes[0];
  for (std::int64_t i = 1; i < n; ++i) {
    low = std::min(low, classes[i]);
    high = std::max(high, classes[i]);
  }
  const std::uint64_t first = static_cast<std::uint64_t>(low);  // unsigned: differences cannot overflow
  const std::uint64_t range = static_cast<std::uint64_t>(high) - first;
  const auto key = [=](std::int64_t rank) { return static_cast<std::uint64_t>(classes[order[rank]]) - first; };
  std::int64_t groups = 0;
  if (range < 2 * static_cast<std::uint64_t>(n) + 256) {  // labels: a counting sort
    const auto place = std::make_unique<std::int64_t[]>(range + 1);
    for (std::int64_t i = 0; i < n; ++i) ++place[static_cast<std::uint64_t>(classes[i]) - first];
    std::int64_t sum = 0;
    for (std::uint64_t c = 0; c <= range; ++c) {
      const std::int64_t count = std::exchange(place[c], sum);
      if (count) starts[groups++] = sum;
      sum += count;
    }
    for (std::int64_t rank = 0; rank < n; ++rank) ranks[place[key(rank)]++] = rank;
  } else {  // any 64-bit ids
    const std::unique_ptr<char[]> scratch(new char[scratch_for<Wide>(n)]);
    sort_indices<Wide>(n, [&](std::int64_t rank) { return Wide{key(rank), rank}; }, ranks, scratch.get());
    for (std::int64_t i = 0; i < n; ++i) {
      if (i == 0 || key(ranks[i]) != key(ranks[i - 1])) starts[groups++] = i;
    }
  }
  starts[groups] = n;
  return groups;
}

}  // namespace cvperf
