#include "wgmma.hpp"

#include <type_traits>

namespace emulator {

// A factor's rows of 32 bytes, by its descriptor: address, leading and stride byte offset (all / 16), swizzle.
class Operand {
 public:
  explicit Operand(std::uint64_t descriptor)
      : address_((descriptor & 0x3fff) << 4),
        leading_((descriptor >> 16 & 0x3fff) << 4),
        stride_((descriptor >> 32 & 0x3fff) << 4),
        span_(kSpans[descriptor >> 62]) {}

  void check(std::uint64_t descriptor, int rows, const char* which, Place place) const {
    const std::string what = std::string("wgmma, descriptor of ") + which;
    if (descriptor & 0x3ff1c000c000c000ull) fail(what + ": bits that must be 0 are not", place);
    if (descriptor >> 49 & 7)
      fail(what + ": base offsets are not supported; let tiles begin with their pattern", place);
    if (span_ > 16) {
      // Rows are `span` bytes apart and 8 of them make the pattern.
      if (address_ >> 7 & (span_ / 16 - 1)) {
        fail(what + ": the address is not in the first row of the pattern, and the base offset is 0", place);
      }
      if (address_ % span_ + 32 > span_) fail(what + ": 32 bytes of K cross the end of a swizzled row", place);
      if (stride_ % (8 * span_) || stride_ == 0) {
        fail(what + ": the stride is no multiple of 8 rows of " + std::to_string(span_) + " bytes", place);
      }
    } else if (stride_ % 128 || stride_ == 0 || leading_ % 128 || leading_ == 0 || stride_ == leading_) {
      fail(what + ": the strides must tell 8 x 16 bytes apart", place);
    }
    for (int row = 0; row < rows; ++row) {
      for (int half = 0; half < 2; ++half) check_in_shared_memory(chunk(row, half), 16, what.c_str(), place);
    }
  }

  // Bytes 0 to 15 or 16 to 31 of a row.
  const char* chunk(int row, int half) const {
    const unsigned group = row / 8 * stride_, within = row % 8;
    const unsigned offset = span_ > 16 ? within * span_ + half * 16 : within * 16 + half * leading_;
    return block.arena + swizzled(address_ + group + offset, span_);
  }

  template <class T, class D>
  void read(int row, D (&values)[32 / sizeof(T)], const char* which, Place place) const {
    for (int half = 0; half < 2; ++half) {
      const char* const from = chunk(row, half);
      check_fenced(from, 16, which, place);
      const T* const elements = reinterpret_cast<const T*>(from);
      for (std::size_t e = 0; e < 16 / sizeof(T); ++e) values[half * 16 / sizeof(T) + e] = widened(elements[e]);
    }
  }

 private:
  static constexpr unsigned kSpans[4] = {16, 128, 64, 32};
  static int widened(signed char x) { return x; }
  static int widened(unsigned char x) { return x; }
  static float widened(__half x) { return __half2float(x); }
  static float widened(__nv_bfloat16 x) { return __bfloat162float(x); }

  unsigned address_, leading_, stride_, span_;
};

// This thread's part of sums[64, columns] += a[64, K] * b[columns, K]: two rows, and every fourth pair of columns.
template <class A, class D>
static void multiply_warpgroup(D* sums, int columns, unsigned index, std::uint64_t descriptor_a,
                               std::uint64_t descriptor_b, bool accumulate, Place place) {
  using B = std::conditional_t<std::is_integral_v<D>, signed char, A>;
  constexpr int K = 32 / sizeof(A);
  const Operand a(descriptor_a), b(descriptor_b);
  D rows[2][K];
  for (int half = 0; half < 2; ++half) {
    a.read<A>(index % 128 / 32 * 16 + index % 32 / 4 + half * 8, rows[half], "wgmma, factor a", place);
  }
  for (int i = 0; i < columns / 2; i += 4) {
    for (int e = 0; e < 2; ++e) {
      D column[K];
      b.read<B>(i * 2 + index % 4 * 2 + e, column, "wgmma, factor b", place);
      for (int half = 0; half < 2; ++half) {
        D& at = sums[i + half * 2 + e];
        D sum = accumulate ? at : D{};
        for (int k = 0; k < K; ++k) sum += rows[half][k] * column[k];
        at = sum;
      }
    }
  }
}

struct Descriptors {
  std::uint64_t a, b;
  int columns;
  Place place;
};

static void check_same(const std::vector<Thread*>&, const std::vector<void*>& arguments) {
  const auto& first = *static_cast<const Descriptors*>(arguments[0]);
  for (const void* argument : arguments) {
    const auto& one = *static_cast<const Descriptors*>(argument);
    if (one.a != first.a || one.b != first.b || one.place.line != first.place.line) {
      fail("wgmma: the threads of a warpgroup bring different descriptors, or meet at different lines", one.place);
    }
  }
  Operand(first.a).check(first.a, 64, "a", first.place);
  Operand(first.b).check(first.b, first.columns, "b", first.place);
}

template <class A, class D>
void start_product(D* sums, int columns, std::uint64_t a, std::uint64_t b, bool accumulate, Place place) {
  Thread& me = *block.running;
  if (!me.products_fenced) {
    fail("wgmma: no wgmma_fence since registers may have been used for something else", place);
  }
  Descriptors mine{a, b, columns, place};
  meet_warpgroup("wgmma", &mine, check_same, place);
  issue(me.products, [=, index = me.index] { multiply_warpgroup<A>(sums, columns, index, a, b, accumulate, place); });
}
template void start_product<signed char>(int*, int, std::uint64_t, std::uint64_t, bool, Place);
template void start_product<unsigned char>(int*, int, std::uint64_t, std::uint64_t, bool, Place);
template void start_product<__half>(float*, int, std::uint64_t, std::uint64_t, bool, Place);
template void start_product<__nv_bfloat16>(float*, int, std::uint64_t, std::uint64_t, bool, Place);

}  // namespace emulator
