// Average pooling of channels-last images, with windows of one size, in bins, or over the whole image.
//
// Idea: channels in the lanes. Small windows are summed as maxima are found, in registers (pool2d_windows.hpp). For
// large ones that would jump from pixel to pixel for each few channels: they are summed eight pixels at a time along
// the rows, into sums in L1. If the one window is the image, its threads share out channels and pieces of
// kPiecePixels pixels; the pieces' sums are added in order. How pixels are grouped follows from the layer alone, so
// that the bits do not depend on threads.
//
// Roofline: the bytes of input and output over the bandwidth of where they lie.
#include "bfloat16_pairs.hpp"
#include "byte_lanes.hpp"
#include "pool2d_windows.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kManyPixels = 32;    // of a window whose sums are in memory
constexpr std::int64_t kPiecePixels = 512;  // of the whole image
constexpr int kBlock = 16;                  // vectors of sums

// Adds elements as float32; writes sums over a divisor.
template <class T>
struct FloatMean {
  using In = T;
  using Out = T;
  using Lanes = Vec<float>;
  static constexpr int kLanes = CVPERF_ISA::kLanes<float>;

  FloatMean(const AvgPool2dArgs&, std::int64_t divisor, std::int64_t) : divisor_(static_cast<float>(divisor)) {}
  CVPERF_INLINE Lanes start() const { return Lanes{}; }
  CVPERF_INLINE Lanes add(Lanes sum, Lanes value) const { return sum + value; }
  template <bool kWhole>
  CVPERF_INLINE Lanes read(const T* from, int lanes) const {
    if constexpr (kWhole) return load(from);
    return load_partial(from, lanes);
  }
  template <bool kWhole>
  CVPERF_INLINE void write(T* to, Lanes sum, int lanes) const {
    if constexpr (kWhole) return store(to, sum / divisor_);
    store_partial(to, sum / divisor_, lanes);
  }

 private:
  float divisor_;
};

// As FloatMean<bfloat16>, for more channels.
struct PairMean {
  using In = bfloat16;
  using Out = bfloat16;
  using Lanes = Pairs;
  static constexpr int kLanes = kPairLanes;

  PairMean(const AvgPool2dArgs&, std::int64_t divisor, std::int64_t) : divisor_(static_cast<float>(divisor)) {}
  CVPERF_INLINE Lanes start() const { return Lanes{}; }
  CVPERF_INLINE Lanes add(const Lanes& sum, const Lanes& value) const {
    return {sum.even + value.even, sum.odd + value.odd};
  }
  template <bool kWhole>
  CVPERF_INLINE Lanes read(const bfloat16* from, int) const {
    return load_pairs(from);
  }
  template <bool kWhole>
  CVPERF_INLINE void write(bfloat16* to, const Lanes& sum, int) const {
    store_pairs(to, {sum.even / divisor_, sum.odd / divisor_});
  }

 private:
  float divisor_;
};

// Adds bytes as int32; writes the mean of what they stand for, itself quantised if Out is bytes.
template <class T, class Result>
struct ByteMean {
  using In = T;
  using Out = Result;
  using Lanes = Vec<std::int32_t>;
  static constexpr int kLanes = CVPERF_ISA::kLanes<float>;
  static constexpr bool kQuantised = sizeof(Out) == 1;

  ByteMean(const AvgPool2dArgs& args, std::int64_t divisor, std::int64_t pixels)
      : offset_(static_cast<std::int32_t>(args.zero * pixels)),
        factor_(args.scale * (kQuantised ? args.out_inverse : 1.0f) / static_cast<float>(divisor)),
        out_zero_(args.out_zero) {}
  CVPERF_INLINE Lanes start() const { return Lanes{}; }
  CVPERF_INLINE Lanes add(Lanes sum, Lanes value) const { return sum + value; }
  template <bool kWhole>
  CVPERF_INLINE Lanes read(const T* from, int lanes) const {
    if constexpr (kWhole) return widened(from);
    return widened_partial(from, lanes);
  }
  template <bool kWhole>
  CVPERF_INLINE void write(Out* to, Lanes sum, int lanes) const {
    const Vec<float> mean = __builtin_convertvector(sum - offset_, Vec<float>) * factor_;
    if constexpr (kQuantised) {
      const Vec<float> lowest = broadcast(static_cast<float>((kSigned<Out> ? -128 : 0) - out_zero_));
      const Bytes<Out> bytes = narrowed<Out>(rounded(min(max(mean, lowest), lowest + 255.0f)) + out_zero_);
      __builtin_memcpy(to, &bytes, static_cast<std::size_t>(kWhole ? kLanes : lanes));
    } else if constexpr (kWhole) {
      store(to, mean);
    } else {
      store_partial(to, mean, lanes);
    }
  }

 private:
  std::int32_t offset_;
  float factor_;
  std::int32_t out_zero_;
};

template <class Mean>
Mean mean_of(const AvgPool2dArgs& args, const Span& rows, const Span& columns) {
  const std::int64_t pixels = rows.count * columns.count;
  const std::int64_t counted = args.count_include_pad ? rows.padded * columns.padded : pixels;
  const std::int64_t divisor = args.divisor_override ? args.divisor_override : counted;
  return Mean(args, divisor ? divisor : 1, pixels);  // a window without elements sums to 0
}

// --- sums in memory -------------------------------------------------------------------------------

// Channels in vectors: the last takes some again where they do not fill it, or has `lanes` that are there.
struct ChannelVectors {
  std::int64_t channels, count;
  int lanes;
  std::int64_t width;

  ChannelVectors(std::int64_t channels, int width)
      : channels(channels),
        count((channels + width - 1) / width),
        lanes(channels < width ? static_cast<int>(channels) : width),
        width(width) {}
  CVPERF_INLINE std::int64_t channel(std::int64_t vector) const {
    const std::int64_t at = vector * width;
    return count == 1 || at + width <= channels ? at : channels - width;
  }
  std::int64_t blocks() const { return (count + kBlock - 1) / kBlock; }
  std::int64_t in_block(std::int64_t block) const {
    return count - block * kBlock < kBlock ? count - block * kBlock : kBlock;
  }
};

template <bool kWhole, class Mean, class In, class Lanes>
void add_pixels(const Mean& mean, const In* pixel, std::int64_t count, const ChannelVectors& vectors,
                std::int64_t block, Lanes* sums) {
  constexpr int kTogether = 8;
  const std::int64_t step = vectors.channels;
  const int width = static_cast<int>(vectors.in_block(block));
  for (std::int64_t left = count; left > 0; left -= kTogether, pixel += kTogether * step) {
    for (int v = 0; v < width; ++v) {
      const In* const from = pixel + vectors.channel(block * kBlock + v);
      Lanes sum = mean.template read<kWhole>(from, vectors.lanes);
      if (left >= kTogether) {
#pragma GCC unroll 8
        for (int i = 1; i < kTogether; ++i)
          sum = mean.add(sum, mean.template read<kWhole>(from + i * step, vectors.lanes));
      } else {
        for (int i = 1; i < static_cast<int>(left); ++i)
          sum = mean.add(sum, mean.template read<kWhole>(from + i * step, vectors.lanes));
      }
      sums[v] = mean.add(sums[v], sum);
    }
  }
}

template <class Mean, class In, class Lanes>
CVPERF_INLINE void add_row(const Mean& mean, const In* pixel, std::int64_t count, const ChannelVectors& vectors,
                           std::int64_t block, Lanes* sums) {
  if (vectors.channels >= Mean::kLanes) return add_pixels<true>(mean, pixel, count, vectors, block, sums);
  add_pixels<false>(mean, pixel, count, vectors, block, sums);
}

template <class Mean, class Out>
CVPERF_INLINE void write_vector(const Mean& mean, const ChannelVectors& vectors, std::int64_t vector,
                                typename Mean::Lanes sum, Out* out) {
  if (vectors.channels >= Mean::kLanes)
    return mean.template write<true>(out + vectors.channel(vector), sum, vectors.lanes);
  mean.template write<false>(out, sum, vectors.lanes);
}

template <class Mean, class In, class Out>
void pool_large_window(const Mean& mean, const PoolWindow<In>& window, Out* out) {
  const ChannelVectors vectors(window.channels, Mean::kLanes);
  for (std::int64_t block = 0; block < vectors.blocks(); ++block) {
    typename Mean::Lanes sums[kBlock] = {};
    for (std::int64_t i = 0; i < window.rows.count; ++i)
      add_row(mean, window.corner + i * window.row_step, window.columns.count, vectors, block, sums);
    for (std::int64_t v = 0; v < vectors.in_block(block); ++v)
      write_vector(mean, vectors, block * kBlock + v, sums[v], out);
  }
}

// --- one window, the image ------------------------------------------------------------------------

template <class Mean, class In, class Out>
void pool_images(const AvgPool2dArgs& args, const Mean& mean) {
  using Lanes = typename Mean::Lanes;
  const ChannelVectors vectors(args.shape.channels, Mean::kLanes);
  const std::int64_t pixels = args.shape.in[0] * args.shape.in[1], channels = args.shape.channels;
  const std::int64_t pieces = (pixels + kPiecePixels - 1) / kPiecePixels, blocks = vectors.blocks();
  const In* const input = static_cast<const In*>(args.input);
  Out* const output = static_cast<Out*>(args.output);
  // Sums of a piece, a vector each.
  Buffer<Lanes> sums_of_pieces(pieces > 1 ? static_cast<std::size_t>(args.shape.images * pieces * vectors.count) : 0);
  Lanes* const saved = sums_of_pieces.data();
  const int threads = threads_for(args.shape, args.num_threads);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
  for (std::int64_t task = 0; task < args.shape.images * pieces * blocks; ++task) {
    const std::int64_t block = task % blocks, piece = task / blocks % pieces, image = task / blocks / pieces;
    const std::int64_t first = piece * kPiecePixels, left = pixels - first;
    Lanes sums[kBlock] = {};
    add_row(mean, input + (image * pixels + first) * channels, left < kPiecePixels ? left : kPiecePixels, vectors,
            block, sums);
    for (std::int64_t v = 0; v < vectors.in_block(block); ++v) {
      const std::int64_t vector = block * kBlock + v;
      if (pieces == 1)
        write_vector(mean, vectors, vector, sums[v], output + image * channels);
      else
        saved[(image * pieces + piece) * vectors.count + vector] = sums[v];
    }
  }
  if (pieces == 1) return;
  for (std::int64_t image = 0; image < args.shape.images; ++image) {
    for (std::int64_t vector = 0; vector < vectors.count; ++vector) {
      Lanes sum{};
      for (std::int64_t piece = 0; piece < pieces; ++piece)
        sum = mean.add(sum, saved[(image * pieces + piece) * vectors.count + vector]);
      write_vector(mean, vectors, vector, sum, output + image * channels);
    }
  }
}

template <class Mean>
void pool_all(const AvgPool2dArgs& args) {
  using In = typename Mean::In;
  using Out = typename Mean::Out;
  if (args.shape.out[0] == 1 && args.shape.out[1] == 1) {
    const Span rows = span_of(args.shape, 0, 0), columns = span_of(args.shape, 1, 0);
    if (rows.count == args.shape.in[0] && columns.count == args.shape.in[1])
      return pool_images<Mean, In, Out>(args, mean_of<Mean>(args, rows, columns));
  }
  for_each_window<In, Out>(args.shape, args.input, args.output, args.num_threads,
                           [&args](const PoolWindow<In>& window, Out* out) {
                             const Mean mean = mean_of<Mean>(args, window.rows, window.columns);
                             if (window.rows.count * window.columns.count >= kManyPixels)
                               return pool_large_window(mean, window, out);
                             pool_window(mean, window, out);
                           });
}

template <class T>
void pool_bytes(const AvgPool2dArgs& args) {
  switch (args.out_dtype) {
    case DType::i8:
      return pool_all<ByteMean<T, std::int8_t>>(args);
    case DType::u8:
      return pool_all<ByteMean<T, std::uint8_t>>(args);
    default:
      with_float(args.out_dtype, [&](auto type) { pool_all<ByteMean<T, decltype(type)>>(args); });
  }
}

}  // namespace

void avg_pool2d(const AvgPool2dArgs& args) {
  if (is_empty(args.shape)) return;
  if (args.dtype == DType::i8) return pool_bytes<std::int8_t>(args);
  if (args.dtype == DType::u8) return pool_bytes<std::uint8_t>(args);
  if (args.dtype == DType::bf16 && args.shape.channels >= kPairLanes) return pool_all<PairMean>(args);
  with_float(args.dtype, [&](auto type) { pool_all<FloatMean<decltype(type)>>(args); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
