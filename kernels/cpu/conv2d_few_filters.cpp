// 1x1 convolution of float32 channels-last images to no more filters than two vectors (AVX-512: four) have lanes:
// the last layer of a segmentation, a score map, a bottleneck. Pixels are then one long matrix, rows at a fixed
// distance, so a tile needs no pointers, no partial sums in memory and no packed panel. Two forms:
//
// Dots, for the fewest filters, where the general tile would fill most lanes with zeros. Vectors run along channels; a
// tile is lanes / filters pixels by all filters, so that its accumulators are as many as a vector has lanes, and
// transposing their square adds them up to one vector that holds the outputs in the order of memory.
// Tile: vectors run along filters, six to twelve pixels are broadcast. Where a row of outputs is shorter than a
// vector, what is written past it belongs to the next pixel, which puts its own numbers there.
//
// On a Zen 4 the tile reaches 65 to 87 % of the multiply-add peak (32 to 16 filters, 16 to 16, 64 to 64), dots 46 to 67
// % of what their bytes or products allow while the image is in L3, and a quarter to a third where it comes from
// memory.
#include "buffer.hpp"
#include "conv2d_epilogue.hpp"
#include "conv2d_past_caches.hpp"
#include "conv2d_problem.hpp"
#include "shuffle.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr int kMostDots = 8;  // filters
constexpr int kMostPixels = 12;
constexpr int kMostVectors = kVectorBytes == 64 ? 4 : 2;
constexpr int kAccumulators = kVectorBytes == 64 ? 24 : 12;  // of 32 registers, or of 16
constexpr std::int64_t kPixelsToPack = 1024;  // of several vectors: fewer take no longer than packing them for the tile
constexpr std::int64_t kTaskBytes = 128 * 1024;

struct Job {
  const ConvProblem& p;
  const float* weight;  // dots: [vectors of channels][filters][lanes]; tile: [channels][vectors of filters]; padded
  bool past_caches;     // outputs are stored so; filters are whole vectors
  const float* bias;    // dots: [lanes], repeated for each pixel; tile: [vectors of filters]
};

// `count` consecutive outputs from sums that have their bias.
__attribute__((noinline)) void finish(const Job& job, std::int64_t at, const float* sums, std::int64_t count) {
  const ConvProblem& p = job.p;
  float* const out = static_cast<float*>(p.out) + at;
  const float *const residual = p.residual ? static_cast<const float*>(p.residual) + at : nullptr, *const bias =
                                                                                                       nullptr;
  if (job.past_caches)
    finish_run<float, true>(out, sums, count, bias, 0, residual, p.activation);
  else
    finish_run(out, sums, count, bias, 0, residual, p.activation);
}

template <int Filters>
void run_dots(const Job& job, std::int64_t first, std::int64_t last) {
  constexpr int lanes = kLanes<float>, pixels = lanes / Filters;
  const ConvProblem& p = job.p;
  const std::int64_t channels = p.channels;
  const int left = static_cast<int>(channels % lanes);  // in the last vector
  const Vec<float> bias = load(job.bias);
  for (std::int64_t i = first; i < last; i += pixels) {
    const std::int64_t pixel = i + pixels <= last ? i : last - pixels;
    const float *from = static_cast<const float*>(p.in) + pixel * channels, *w = job.weight;
    Vec<float> sum[lanes] = {};
    for (std::int64_t c = 0; c < channels; c += lanes, w += Filters * lanes) {
      const bool whole = c + lanes <= channels;
#pragma GCC unroll 16
      for (int j = 0; j < pixels; ++j) {
        const float* at = from + j * channels + c;
        Vec<float> x = whole ? load(at) : load_partial(at, left);
        hold(x);
#pragma GCC unroll 16
        for (int f = 0; f < Filters; ++f) sum[j * Filters + f] += x * load(w + f * lanes);
      }
    }
    transpose_square<float>(sum);
    Vec<float> total = bias;
#pragma GCC unroll 16
    for (int j = 0; j < lanes; ++j) total += sum[j];
    float kept[lanes];
    store(kept, total);
    finish(job, pixel * Filters, kept, pixels * Filters);
  }
}

template <int Vectors>
void run_tile(const Job& job, std::int64_t first, std::int64_t last) {
  constexpr int lanes = kLanes<float>, width = Vectors * lanes;
  constexpr int kPixels = kAccumulators / Vectors < kMostPixels ? kAccumulators / Vectors : kMostPixels;
  constexpr int kTogether = kPixels % 3 == 0 ? 3 : 2;  // pixels from one pointer, which x86 addresses reach
  const ConvProblem& p = job.p;
  const std::int64_t channels = p.channels, filters = p.filters;
  for (std::int64_t i = first; i < last; i += kPixels) {
    const std::int64_t pixel = i + kPixels <= last ? i : last - kPixels;
    const float* from[kPixels / kTogether];
    Vec<float> sum[kPixels][Vectors];
#pragma GCC unroll 12
    for (int j = 0; j < kPixels; ++j)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sum[j][v] = load(job.bias + v * lanes);
#pragma GCC unroll 4
    for (int j = 0; j < kPixels / kTogether; ++j)
      from[j] = static_cast<const float*>(p.in) + (pixel + kTogether * j) * channels;
    for (std::int64_t c = 0; c < channels; ++c) {
      Vec<float> w[Vectors];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) w[v] = load(job.weight + c * width + v * lanes);
#pragma GCC unroll 4
      for (int j = 0; j < kPixels / kTogether; ++j) {
#pragma GCC unroll 3
        for (int k = 0; k < kTogether; ++k) {
          const Vec<float> x = broadcast(from[j][k * channels]);
#pragma GCC unroll 4
          for (int v = 0; v < Vectors; ++v) sum[kTogether * j + k][v] += x * w[v];
        }
        ++from[j];
      }
    }
    // The rows, without what is between them, and room for the last one's rest.
    float kept[kPixels * width];
    const bool simple = !p.residual && p.activation == Activation::none && !job.past_caches;
    const bool direct = simple && (pixel + kPixels - 1) * filters + width <= last * filters;
    float* const to = direct ? static_cast<float*>(p.out) + pixel * filters : kept;
#pragma GCC unroll 12
    for (int j = 0; j < kPixels; ++j)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) store(to + j * filters + v * lanes, sum[j][v]);
    if (!direct) finish(job, pixel * filters, kept, kPixels * filters);
  }
}

using RunTask = void (*)(const Job&, std::int64_t, std::int64_t);

template <int Filters>
RunTask pick_dots(std::int64_t filters) {
  if constexpr (Filters > kMostDots || Filters > kLanes<float>) {
    return nullptr;
  } else {
    return filters == Filters ? run_dots<Filters> : pick_dots<Filters + 1>(filters);
  }
}

template <int Vectors>
RunTask pick_tile(std::int64_t vectors) {
  if constexpr (Vectors == kMostVectors)
    return run_tile<Vectors>;
  else
    return vectors == Vectors ? run_tile<Vectors> : pick_tile<Vectors + 1>(vectors);
}

// Dots, if they are fewer operations: a square's transpose and sum are about 5 operations a lane.
RunTask pick(const ConvProblem& p, bool* dots) {
  constexpr std::int64_t lanes = kLanes<float>;
  *dots = false;
  if (p.filters > lanes) return pick_tile<2>((p.filters + lanes - 1) / lanes);
  const std::int64_t pixels = lanes / p.filters, vectors = (p.channels + lanes - 1) / lanes;
  const RunTask run = pick_dots<1>(p.filters);
  *dots = run && p.filters * pixels * vectors + 5 * lanes < pixels * (p.channels + 4);
  return *dots ? run : run_tile<1>;
}

// `width`: of the bias, and of a tile's rows of weights.
void pack(const ConvProblem& p, bool dots, std::int64_t width, float* weight, float* bias) {
  constexpr std::int64_t lanes = kLanes<float>;
  const float *from = static_cast<const float*>(p.weight), *given = static_cast<const float*>(p.bias);
  const std::int64_t channels = (p.channels + lanes - 1) / lanes * lanes, used = lanes / p.filters * p.filters;
  for (std::int64_t i = 0; i < width; ++i)
    bias[i] = given && (dots ? i < used : i < p.filters) ? given[i % p.filters] : 0;
  if (dots) {
    for (std::int64_t c = 0; c < channels; ++c)
      for (std::int64_t f = 0; f < p.filters; ++f)
        weight[(c / lanes * p.filters + f) * lanes + c % lanes] =
            c < p.channels ? from[f * p.weight_filter + c * p.weight_channel] : 0.0f;
    return;
  }
  for (std::int64_t c = 0; c < p.channels; ++c)
    for (std::int64_t f = 0; f < width; ++f)
      weight[c * width + f] = f < p.filters ? from[f * p.weight_filter + c * p.weight_channel] : 0.0f;
}

}  // namespace

// False if the problem is not such a layer.
bool run_few_filters(const ConvProblem& p) {
  constexpr std::int64_t lanes = kLanes<float>;
  const std::int64_t pixels = p.batch * p.out_height * p.out_width, least = lanes > kMostPixels ? lanes : kMostPixels;
  if (p.dtype != DType::f32 || !p.channels_last || p.filters < 1 || p.filters > kMostVectors * lanes || p.channels < 1)
    return false;
  if (!p.is_pointwise() || p.groups != 1 || pixels < least) return false;
  if (p.filters > lanes && pixels < kPixelsToPack) return false;

  bool dots = false;
  const RunTask run = pick(p, &dots);
  const std::int64_t width = (p.filters + lanes - 1) / lanes * lanes;
  Buffer<float> weight((p.channels + lanes) * width), bias(width);
  pack(p, dots, width, weight.data(), bias.data());
  const bool past_caches = exceeds_caches(p) && writes_aligned_vectors(p, p.filters);
  const Job job{p, weight.data(), past_caches, bias.data()};
  const std::int64_t threads = p.num_threads < 1 ? 1 : p.num_threads;
  std::int64_t tasks = pixels * p.channels * 4 / kTaskBytes;
  if (tasks < threads) tasks = threads;
  if (tasks > pixels / least) tasks = pixels / least;  // a task has at least a tile
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && tasks > 1)
  for (std::int64_t i = 0; i < tasks; ++i) {
    run(job, pixels * i / tasks, pixels * (i + 1) / tasks);
    if (past_caches) settle_streams();
  }
  return true;
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
