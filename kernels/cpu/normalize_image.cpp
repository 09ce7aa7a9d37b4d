// uint8 pixels [N, H, W, C] to normalised floating-point planes [N, C, H, W] or back, in one pass. (Where the layout
// stays, dequantize() is the same arithmetic.)
//
// Idea: the layout is changed while the elements are bytes, a block of pixels at a time in L1; then each run is
// converted as dequantize() does it. Three channels, which is what images have, go through byte shuffles: 16 pixels are
// three vectors on either side.
//
// Roofline: 1 byte read and 2 or 4 written an element over the bandwidth of where they lie. Outputs that no cache holds
// are stored past the caches. Reached on one thread of a Zen 4: 0.41 to planes, 0.18 to pixels, 0.66 to 0.7 from 24 MB
// on.
#include "normalize_image.hpp"

#include "dequantize_run.hpp"
#include "shuffle.hpp"
#include "thread_index.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kBlock = 1024;  // pixels

#if defined(CVPERF_HAS_SHUFFLE)
typedef std::uint8_t Lane16 __attribute__((vector_size(16)));
using Lanes16 = LanesUpTo<16>::type;

// Bytes K, K + 3, K + 6, ... of the three vectors joined.
template <int K, int... I>
CVPERF_INLINE Lane16 every_third(Lane16 a, Lane16 b, Lane16 c, LaneList<I...>) {
  const Lane16 ab = __builtin_shufflevector(a, b, (3 * I + K < 32 ? 3 * I + K : 0)...);
  return __builtin_shufflevector(ab, c, (3 * I + K < 32 ? I : 3 * I + K - 16)...);
}

// Bytes 16 K .. 16 K + 15 of the pixels whose channels are a, b and c.
template <int K, int... I>
CVPERF_INLINE Lane16 joined_thirds(Lane16 a, Lane16 b, Lane16 c, LaneList<I...>) {
  const Lane16 ab = __builtin_shufflevector(a, b, ((16 * K + I) % 3 * 16 % 32 + (16 * K + I) / 3)...);
  return __builtin_shufflevector(ab, c, ((16 * K + I) % 3 < 2 ? I : 16 + (16 * K + I) / 3)...);
}

CVPERF_INLINE Lane16 load16(const std::uint8_t* from) {
  Lane16 v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
#endif

// planes[c * pitch + i] = pixels[i * channels + c] for i < count.
void split(const std::uint8_t* pixels, std::int64_t channels, std::int64_t count, std::uint8_t* planes,
           std::int64_t pitch) {
  std::int64_t i = 0;
#if defined(CVPERF_HAS_SHUFFLE)
  for (; channels == 3 && i + 16 <= count; i += 16) {
    const Lane16 a = load16(pixels + 3 * i), b = load16(pixels + 3 * i + 16), c = load16(pixels + 3 * i + 32);
    const Lane16 planar[3] = {every_third<0>(a, b, c, Lanes16{}), every_third<1>(a, b, c, Lanes16{}),
                              every_third<2>(a, b, c, Lanes16{})};
    for (int k = 0; k < 3; ++k) __builtin_memcpy(planes + k * pitch + i, &planar[k], sizeof planar[k]);
  }
#endif
  for (; i < count; ++i)
    for (std::int64_t c = 0; c < channels; ++c) planes[c * pitch + i] = pixels[i * channels + c];
}

// pixels[i * channels + c] = planes[c * pitch + i] for i < count.
void join(const std::uint8_t* planes, std::int64_t pitch, std::int64_t channels, std::int64_t count,
          std::uint8_t* pixels) {
  std::int64_t i = 0;
#if defined(CVPERF_HAS_SHUFFLE)
  for (; channels == 3 && i + 16 <= count; i += 16) {
    const Lane16 a = load16(planes + i), b = load16(planes + pitch + i), c = load16(planes + 2 * pitch + i);
    const Lane16 joined[3] = {joined_thirds<0>(a, b, c, Lanes16{}), joined_thirds<1>(a, b, c, Lanes16{}),
                              joined_thirds<2>(a, b, c, Lanes16{})};
    for (int k = 0; k < 3; ++k) __builtin_memcpy(pixels + 3 * i + 16 * k, &joined[k], sizeof joined[k]);
  }
#endif
  for (; i < count; ++i)
    for (std::int64_t c = 0; c < channels; ++c) pixels[i * channels + c] = planes[c * pitch + i];
}

template <class Out>
void normalize_all(const NormalizeImageArgs& args) {
  const std::int64_t channels = args.channels, blocks = (args.pixels + kBlock - 1) / kBlock;
  const std::int64_t tasks = args.images * blocks, elements = args.images * channels * args.pixels;
  if (elements == 0) return;
  const ChannelView view{args.images * args.pixels, channels, args.to_planes ? args.pixels : 1};
  const ChannelTable<float> offset(view, [&](std::int64_t c) { return args.offset[c]; });
  const ChannelTable<float> factor(view, [&](std::int64_t c) { return args.factor[c]; });
  const std::int64_t period = ChannelTable<float>::period(view);
  const bool past_caches = elements * (1 + size_of(args.out_dtype)) >= kPastCachesBytes;
  const int threads = elements < kAloneElements ? 1 : args.num_threads;
  const std::size_t each = Buffer<std::uint8_t>::bytes_of(static_cast<std::size_t>(channels * kBlock));
  Buffer<std::uint8_t> memory(each * static_cast<std::size_t>(threads));
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (std::int64_t task = 0; task < tasks; ++task) {
    std::uint8_t* const block = memory.data() + each * static_cast<std::size_t>(thread_index());
    const std::int64_t image = task / blocks * channels * args.pixels, at = task % blocks * kBlock;
    const std::int64_t count = args.pixels - at < kBlock ? args.pixels - at : kBlock;
    Out* const out = static_cast<Out*>(args.out) + image;
    if (args.to_planes) {
      split(args.x + image + at * channels, channels, count, block, kBlock);
      for (std::int64_t c = 0; c < channels; ++c) {
        const auto plane = dequantize_of(Parameters<false>{}, block + c * kBlock, offset.data() + c, factor.data() + c);
        write_run(out + c * args.pixels + at, count, past_caches, plane);
      }
    } else {
      join(args.x + image + at, args.pixels, channels, count, block);
      for (std::int64_t i = 0; i < count * channels; i += period) {
        const std::int64_t left = count * channels - i;
        const auto row = dequantize_of(Parameters<true>{}, block + i, offset.data(), factor.data());
        write_run(out + at * channels + i, left < period ? left : period, past_caches, row);
      }
    }
    if (past_caches) settle_streams();
  }
}

}  // namespace

void normalize_image(const NormalizeImageArgs& args) {
  with_float(args.out_dtype, [&](auto type) { normalize_all<decltype(type)>(args); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
