// Weight gradient of 3x3 layers of stride 1, channels-last, by Winograd's F(4x4, 3x3): 4 times fewer multiplications
// than the direct sum of conv2d_weight_grad.cpp.
//
// Forward, Y = At [U * V] A with U = G g Gt and V = Bt d B of a tile of the image. So at each of the 36 points the
// gradient of U is a sum over tiles of V times A dY At, a matrix product whose depth is the number of tiles, and that
// of g is Gt dU G. The transforms are the forward's, transposed, and so is their error. Source: Lavin and Gray, CVPR
// 2016, who note it; the points are those of conv2d_winograd.hpp. Tiles are taken in chunks that stay in the caches.
// All threads share a chunk: first its tiles, then its points. Chunks follow from the shape alone and are added in
// order, so the result does not depend on threads.
#include "buffer.hpp"
#include "conv2d_offset_sums.hpp"
#include "conv2d_problem.hpp"
#include "conv2d_winograd_image.hpp"
#include "shuffle.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kChunkBytes = 2 << 20;  // of V and of the transformed gradient, together
constexpr std::int64_t kLeastChunk = 256;      // tiles: shorter sums do not pay for their memory traffic
constexpr std::int64_t kChannelBlock = 64;     // of a task
constexpr std::int64_t kLeastTiles = 32;       // of a layer, and
constexpr std::int64_t kLeastChannels = 32;    // channels and filters, with which it wins
constexpr double kMostWaste = 2;               // outputs of all tiles over those that there are

template <class T>
struct Job {
  using W = Winograd<4>;
  static constexpr int kPoints = W::kTile * W::kTile;

  const ConvProblem& p;  // the forward problem; p.in is the image
  const T* grad;
  const T* zeros;  // as many as the larger of channels and filters
  WinogradGrid<4> grid;
  std::int64_t chunk, image_pitch, filter_pitch;  // the latter two of a tile's channels and filters
  float *image, *gradient, *sums;          // [point][tile][channel], [point][panel][tile][..], [point][channel][filter]
  std::int64_t image_step, gradient_step;  // from one point to the next

  // A dY At of one tile.
  void transform_gradient(std::int64_t group, std::int64_t tile, std::int64_t row) const {
    const auto [n, y, x] = grid.place(tile);
    const T* from = grad + n * p.out_batch + y * p.out_row + x * p.out_column + group * p.filters;
    const T* pixels[4][4];
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < 4; ++j)
        pixels[i][j] = y + i < p.out_height && x + j < p.out_width ? from + i * p.out_row + j * p.out_column : zeros;
    for (std::int64_t f = 0; f < p.filters; f += kL) {
      const int left = static_cast<int>(p.filters - f < kL ? p.filters - f : kL);
      float* to = gradient + (f / kPanel<float> * chunk + row) * kPanel<float> + f % kPanel<float>;
      Vec<float> columns[4][W::kTile];  // [column][point along y]
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        Vec<float> d[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) d[i] = left == kL ? load(pixels[i][j] + f) : load_partial(pixels[i][j] + f, left);
        W::output_grad(d, columns[j]);
      }
#pragma GCC unroll 6
      for (int i = 0; i < W::kTile; ++i) {
        Vec<float> d[4], u[W::kTile];
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) d[j] = columns[j][i];
        W::output_grad(d, u);
#pragma GCC unroll 6
        for (int j = 0; j < W::kTile; ++j) store(to + (i * W::kTile + j) * gradient_step, u[j]);
      }
    }
  }

  // Adds the products of `count` tiles at one point to the sums of channels from `first` on.
  void add_point(int point, std::int64_t first, std::int64_t channels, std::int64_t count, bool start,
                 const std::int64_t* offsets) const {
    const std::int64_t *channel = offsets, *tile = offsets + kChannelBlock, *row = tile + chunk;
    add_windows<float>({image + point * image_step + first, gradient + point * gradient_step, chunk * kPanel<float>,
                        channel, tile, row, channels, count, filter_pitch, start},
                       sums + (point * p.channels + first) * filter_pitch);
  }

  // Gt dU G of one channel: to[tap * step + filter].
  void transform_sums(std::int64_t channel, float* to, std::int64_t step) const {
    const float* from = sums + channel * filter_pitch;
    const std::int64_t point = p.channels * filter_pitch;
    for (std::int64_t f = 0; f < filter_pitch; f += kL) {
      Vec<float> columns[W::kTile][3];
#pragma GCC unroll 6
      for (int j = 0; j < W::kTile; ++j) {
        Vec<float> u[W::kTile];
#pragma GCC unroll 6
        for (int i = 0; i < W::kTile; ++i) u[i] = load(from + (i * W::kTile + j) * point + f);
        W::filter_grad(u, columns[j]);
      }
#pragma GCC unroll 3
      for (int i = 0; i < 3; ++i) {
        Vec<float> u[W::kTile], g[3];
#pragma GCC unroll 6
        for (int j = 0; j < W::kTile; ++j) u[j] = columns[j][i];
        W::filter_grad(u, g);
#pragma GCC unroll 3
        for (int j = 0; j < 3; ++j) store(to + (i * 3 + j) * step + f, g[j]);
      }
    }
  }
};

template <class T>
void run(const ConvProblem& p, const T* grad, T* grad_weight) {
  const std::int64_t most = round_up(p.channels > p.filters ? p.channels : p.filters);
  Buffer<T> zeros(most);
  for (std::int64_t i = 0; i < most; ++i) zeros[i] = T{};
  Job<T> job{p, grad, zeros.data(), WinogradGrid<4>(p), 0, 0, round_up(p.filters), nullptr, nullptr, nullptr, 0, 0};
  // An odd number of cache lines, so that a channel's tiles do not share a set of the first cache.
  job.image_pitch = ((p.channels + 15) / 16 | 1) * 16;
  const std::int64_t panels = (job.filter_pitch + kPanel<float> - 1) / kPanel<float>, tiles = job.grid.tiles();
  std::int64_t wanted = kChunkBytes / 4 / job.kPoints / (job.image_pitch + panels * kPanel<float>);
  if (wanted < kLeastChunk) wanted = kLeastChunk;
  const std::int64_t chunks = (tiles + wanted - 1) / wanted;
  job.chunk = (tiles + chunks - 1) / chunks;
  job.image_step = round_up(job.chunk * job.image_pitch) + kL;
  job.gradient_step = panels * job.chunk * kPanel<float> + kL;
  Buffer<float> image(job.kPoints * job.image_step), gradient(job.kPoints * job.gradient_step);
  Buffer<float> sums(job.kPoints * p.channels * job.filter_pitch), taps(9 * p.channels * job.filter_pitch);
  job.image = image.data(), job.gradient = gradient.data(), job.sums = sums.data();
  Buffer<std::int64_t> offsets(kChannelBlock + 2 * job.chunk);
  for (std::int64_t c = 0; c < kChannelBlock; ++c) offsets[c] = c;
  for (std::int64_t t = 0; t < job.chunk; ++t) {
    offsets[kChannelBlock + t] = t * job.image_pitch;
    offsets[kChannelBlock + job.chunk + t] = t * kPanel<float>;
  }

  const std::int64_t threads = p.num_threads < 1 ? 1 : p.num_threads;
  const std::int64_t blocks = (p.channels + kChannelBlock - 1) / kChannelBlock;
#pragma omp parallel num_threads(threads) if (threads > 1)
  for (std::int64_t group = 0; group < p.groups; ++group) {
    for (std::int64_t i = 0; i < chunks; ++i) {
      const std::int64_t first = tiles * i / chunks, count = tiles * (i + 1) / chunks - first;
#pragma omp for schedule(static)
      for (std::int64_t t = 0; t < count; ++t) {
        transform_image_tile<T, 4>(p, group, job.grid.place(first + t), job.zeros, job.image + t * job.image_pitch,
                                   job.image_step);
        job.transform_gradient(group, first + t, t);
      }
#pragma omp for schedule(dynamic, 1)
      for (std::int64_t task = 0; task < job.kPoints * blocks; ++task) {
        const std::int64_t channel = task % blocks * kChannelBlock;
        const std::int64_t channels = p.channels - channel < kChannelBlock ? p.channels - channel : kChannelBlock;
        job.add_point(static_cast<int>(task / blocks), channel, channels, count, i == 0, offsets.data());
      }
    }
    const std::int64_t step = p.channels * job.filter_pitch;
#pragma omp for schedule(static)
    for (std::int64_t c = 0; c < p.channels; ++c) job.transform_sums(c, taps.data() + c * job.filter_pitch, step);
#pragma omp for schedule(static)
    for (std::int64_t i = 0; i < 9 * blocks; ++i) {
      const std::int64_t tap = i / blocks, channel = i % blocks * kChannelBlock;
      const std::int64_t channels = p.channels - channel < kChannelBlock ? p.channels - channel : kChannelBlock;
      transpose_block<false>(taps.data() + tap * step + channel * job.filter_pitch, job.filter_pitch, channels,
                             p.filters, grad_weight + group * p.weight_group + p.tap_weight(tap) + channel,
                             p.weight_filter);
    }
  }
}

}  // namespace

// False if the layer is none that this is for.
bool winograd_weight_grad(const ConvProblem& p, const void* grad, void* out) {
  if (!p.channels_last || !winograd_fits(p) || p.weight_channel != 1) return false;
  if (p.channels < kLeastChannels || p.filters < kLeastChannels) return false;
  const std::int64_t tiles = WinogradGrid<4>(p).tiles();
  if (tiles < kLeastTiles || 16.0 * tiles > kMostWaste * p.batch * p.out_height * p.out_width) return false;
  with_float(p.dtype, [&](auto element) {
    using T = decltype(element);
    run<T>(p, static_cast<const T*>(grad), static_cast<T*>(out));
  });
  return true;
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
