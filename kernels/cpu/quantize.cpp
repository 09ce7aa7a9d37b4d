// Between floating point and 8-bit integers, one scale and zero point for all or one a channel.
//
// Idea: one pass of vectors whatever the layout (channel_runs.hpp). Quantised as in torch and in the epilogue of our
// INT8 kernels: times the float32 inverse of the scale, rounded half to even, then the zero point; saturated, which is
// done before the rounding so that it may be the addition of a magic number. NaN becomes the least value.
//
// Roofline: the bytes read and written over the bandwidth of where they lie; 7 operations a vector hide behind it.
// Reached on one thread of a Zen 4: 0.5 to 0.6 in L3; 0.3 at 6 to 32 MB, which the model takes for L3.
#include "quantize.hpp"

#include "dequantize_run.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

// Parameters of a run as tables.
struct Levels {
  const float *inverse, *low;  // the least value there can be, before the zero point is added
  const std::int32_t* zero;
};

template <bool kEach, class In, class Out>
void quantize_run(Parameters<kEach>, const In* x, const Levels& levels, std::int64_t count, Out* out) {
  constexpr int lanes = kLanes<float>;
  const Parameter<kEach, float> inverse(levels.inverse), lows(levels.low);
  const Parameter<kEach, std::int32_t> zero(levels.zero);
  for (std::int64_t i = 0; i < count; i += lanes) {
    const Vec<float> low = lows.at(i);
    Vec<float> v = load_left(x + i, count - i) * inverse.at(i);
    v = min(max(v, low), low + 255.0f);  // NaN becomes `low`
    const Bytes<Out> bytes = narrowed<Out>(rounded(v) + zero.at(i));
    if (count - i >= lanes)
      __builtin_memcpy(out + i, &bytes, sizeof bytes);
    else
      __builtin_memcpy(out + i, &bytes, static_cast<std::size_t>(count - i));
  }
}

template <class In, class Out>
void quantize_all(const QuantizeArgs& args) {
  const In* const x = static_cast<const In*>(args.x);
  Out* const out = static_cast<Out*>(args.out);
  const auto zero_of = [&](std::int64_t c) { return args.zero_point[args.zero_point_per_channel ? c : 0]; };
  const ChannelTable<float> inverse(args.view,
                                    [&](std::int64_t c) { return 1.0f / args.scale[args.scale_per_channel ? c : 0]; });
  const ChannelTable<float> low(args.view, [&](std::int64_t c) {
    return static_cast<float>((kSigned<Out> ? -128 : 0) - static_cast<std::int64_t>(zero_of(c)));
  });
  const ChannelTable<std::int32_t> zero(args.view, zero_of);
  for_each_run(args.view, false, args.num_threads, [&](auto first, auto count, auto channel, auto parameters) {
    const Levels levels{inverse.data() + channel, low.data() + channel, zero.data() + channel};
    quantize_run(parameters, x + first, levels, count, out + first);
  });
}

template <class In, class Out>
void dequantize_all(const DequantizeArgs& args) {
  const In* const x = static_cast<const In*>(args.x);
  Out* const out = static_cast<Out*>(args.out);
  const ChannelTable<float> offset(args.view, [&](std::int64_t c) { return args.offset[c]; });
  const ChannelTable<float> factor(args.view, [&](std::int64_t c) { return args.factor[c]; });
  const bool past_caches = args.view.elements() * (size_of(args.out_dtype) + 1) >= kPastCachesBytes;
  for_each_run(args.view, past_caches, args.num_threads, [&](auto first, auto count, auto channel, auto parameters) {
    const auto at = dequantize_of(parameters, x + first, offset.data() + channel, factor.data() + channel);
    write_run(out + first, count, past_caches, at);
  });
}

}  // namespace

void quantize(const QuantizeArgs& args) {
  if (args.view.elements() == 0) return;
  with_float(args.dtype, [&](auto type) {
    if (args.out_dtype == DType::i8) return quantize_all<decltype(type), std::int8_t>(args);
    quantize_all<decltype(type), std::uint8_t>(args);
  });
}

void dequantize(const DequantizeArgs& args) {
  if (args.view.elements() == 0) return;
  with_float(args.out_dtype, [&](auto type) {
    if (args.dtype == DType::i8) return dequantize_all<std::int8_t, decltype(type)>(args);
    dequantize_all<std::uint8_t, decltype(type)>(args);
  });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
