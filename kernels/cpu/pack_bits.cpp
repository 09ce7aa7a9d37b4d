// Signs of a channels-last image as bits, 32 channels a word.
//
// Idea: a vector's comparison with zero is a bit a lane already (lanes_from of simd.hpp); a word is as many of these as
// its lanes need, side by side. One pass; a tail of channels is read as zeros and its bits are cleared.
// Roofline: the numbers read over the bandwidth of where they lie; the bits are a thirty-second of them.
#include "conv2d_binary.hpp"
#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kAloneNumbers = 1 << 15;  // fewer than these take longer to share out than to pack

template <class T>
CVPERF_INLINE std::uint32_t word_of(const T* x, std::int64_t count) {
  constexpr int lanes = kLanes<float>;
  const Vec<float> zero{};
  std::uint32_t word = 0;
  for (int i = 0; i < count; i += lanes) {
    const std::int64_t left = count - i;
    const Vec<float> values = left >= lanes ? load(x + i) : load_partial(x + i, static_cast<int>(left));
    word |= static_cast<std::uint32_t>(lanes_from(values, zero)) << i;
  }
  return count < kBinaryWord ? word & ((1u << count) - 1) : word;
}

template <class T>
void pack_all(const PackBitsArgs& args) {
  const T* const x = static_cast<const T*>(args.x);
  const std::int64_t channels = args.channels, words = binary_words(channels);
  const int threads = args.pixels * channels < kAloneNumbers ? 1 : args.num_threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (std::int64_t pixel = 0; pixel < args.pixels; ++pixel) {
    const T* from = x + pixel * channels;
    std::uint32_t* to = args.out + pixel * words;
    std::int64_t left = channels;
    for (; left >= kBinaryWord; left -= kBinaryWord, from += kBinaryWord) *to++ = word_of(from, kBinaryWord);
    if (left > 0) *to = word_of(from, left);
  }
}

}  // namespace

void pack_bits(const PackBitsArgs& args) {
  if (args.pixels == 0) return;
  with_float(args.dtype, [&](auto type) { pack_all<decltype(type)>(args); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
