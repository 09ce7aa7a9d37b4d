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
#include "interleave.hpp"
#include "thread_index.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kBlock = 1024;  // pixels

// planes[c * pitch + i] = pixels[i * channels + c] for i < count.
void split(const std::uint8_t* pixels, std::int64_t channels, std::int64_t count, std::uint8_t* planes,
           std::int64_t pitch) {
  if (channels == 3) return part_rows<3>(pixels, count, planes, pitch);
  for (std::int64_t i = 0; i < count; ++i)
    for (std::int64_t c = 0; c < channels; ++c) planes[c * pitch + i] = pixels[i * channels + c];
}

// pixels[i * channels + c] = planes[c * pitch + i] for i < count.
void join(const std::uint8_t* planes, std::int64_t pitch, std::int64_t channels, std::int64_t count,
          std::uint8_t* pixels) {
  if (channels == 3) return join_rows<3>(planes, pitch, count, pixels);
  for (std::int64_t i = 0; i < count; ++i)
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
