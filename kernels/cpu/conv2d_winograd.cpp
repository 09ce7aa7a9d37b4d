// 3x3 convolution of stride 1, channels-last, by Winograd's F(2x2, 3x3) or F(4x4, 3x3): 2.25 or 4 times fewer
// multiplications than the direct sum, for three passes over memory that it does not need.
//
// Tiles of M x M outputs are taken in chunks of a transformed image V[point][tile][channel] and products
// M[point][tile][filter]. A chunk passes three stages: the image tiles are transformed (vectors of channels); for each
// of the (M + 2)^2 points, V times the transformed filters U[point] is an ordinary matrix product, done by the register
// tile of the direct convolution (gemm_tile.hpp); the products are transformed back (vectors of filters) and finished
// with bias, residual and activation.
// A thread takes chunks of its own if there are tiles enough that reading U (9 MB for 256 channels and filters) for
// itself costs it little: no thread waits for another or reads what another wrote, which costs a layer a quarter to
// a half where the two share no cache. Else each stage of a chunk is split over all threads.
// float16 and bfloat16 are widened as they are read and rounded once as they are written: everything between is
// float32. Every output is summed in one fixed order, so neither chunks nor threads change a bit. Source: Lavin and
// Gray, CVPR 2016 (see conv2d_winograd.hpp for the points).
#include "buffer.hpp"
#include "conv2d_epilogue.hpp"
#include "conv2d_pack.hpp"
#include "conv2d_problem.hpp"
#include "conv2d_winograd_image.hpp"
#include "gemm_tile.hpp"
#include "thread_index.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kSmallFilterBytes = 4 << 20;  // of U, up to which chunks stay in L2
constexpr std::int64_t kNearFilterBytes = 12 << 20;  // of U, which a third-level cache keeps
constexpr std::int64_t kSmallChunkBytes = 1 << 20;   // of V and M together
constexpr std::int64_t kLargeChunkBytes = 3 << 20;   // likewise; a large U is read less often
constexpr std::int64_t kLeastChunk = 6 * kTileRows;  // tiles
constexpr std::int64_t kRowBlockBytes = 192 << 10;   // of V that a task of a shared product reads: stays in L2

template <class T, int M>
struct Job {
  using W = Winograd<M>;
  static constexpr int kTile = W::kTile, kPoints = kTile * kTile;

  const ConvProblem& p;
  const float* filters;  // [point][panel][channel][columns]
  const float* bias;     // [filters], padded, or null
  const T* zeros;        // [channels], padded
  float *image, *product;
  WinogradGrid<M> grid;
  std::int64_t image_step, product_pitch, product_step;  // from one point to the next; rows of a product
  FilterPanels<float> panels;

  std::int64_t filter_bytes() const { return 4 * kPoints * panels.columns() * p.channels; }

  // Stage 1: tile `tile` of the layer becomes row `row` of every V[point].
  void transform_image(std::int64_t group, std::int64_t tile, std::int64_t row) const {
    transform_image_tile<T, M>(p, group, grid.place(tile), zeros, image + row * p.channels, image_step);
  }

  // Stage 2: rows [begin, end) of one point's product. `rows` is storage for as many pointers.
  void multiply_point(std::int64_t group, int point, std::int64_t begin, std::int64_t end, const float** rows) const {
    for (std::int64_t r = begin; r < end; ++r) rows[r - begin] = image + point * image_step + r * p.channels;
    TileArgs<float> t{};
    t.a = rows;
    t.segments = 1;
    t.length = p.channels;
    t.c_pitch = product_pitch;
    const float* u = filters + (group * kPoints + point) * panels.columns() * p.channels;
    for (std::int64_t i = 0; i < panels.count; ++i) {
      t.b = u + panels.first(i) * p.channels;
      t.c = product + point * product_step + begin * product_pitch + panels.first(i);
      multiply(end - begin, panels.vectors(i), t);
    }
  }

  // Stage 3: row `row` of every product becomes the outputs of tile `tile`.
  void transform_product(std::int64_t group, std::int64_t tile, std::int64_t row) const {
    const auto [n, y, x] = grid.place(tile);
    const int height = static_cast<int>(p.out_height - y < M ? p.out_height - y : M);
    const int width = static_cast<int>(p.out_width - x < M ? p.out_width - x : M);
    const std::int64_t at = n * p.out_batch + y * p.out_row + x * p.out_column + group * p.filters;
    const float* from = product + row * product_pitch;
    for (std::int64_t f = 0; f < p.filters; f += kL) {
      const int left = static_cast<int>(p.filters - f < kL ? p.filters - f : kL);
      Vec<float> columns[kTile][M];  // [column][output along y]
#pragma GCC unroll 6
      for (int j = 0; j < kTile; ++j) {
        Vec<float> m[kTile];
#pragma GCC unroll 6
        for (int i = 0; i < kTile; ++i) m[i] = load(from + (i * kTile + j) * product_step + f);
        W::output(m, columns[j]);
      }
      const Vec<float> b = bias ? load(bias + group * p.filters + f) : Vec<float>{};
#pragma GCC unroll 4
      for (int i = 0; i < M; ++i) {
        if (i >= height) break;
        Vec<float> m[kTile], out[M];
#pragma GCC unroll 6
        for (int j = 0; j < kTile; ++j) m[j] = columns[j][i];
        W::output(m, out);
#pragma GCC unroll 4
        for (int j = 0; j < M; ++j)
          if (j < width) finish(at + i * p.out_row + j * p.out_column + f, out[j] + b, left);
      }
    }
  }

  CVPERF_INLINE void finish(std::int64_t at, Vec<float> v, int left) const {
    T* out = static_cast<T*>(p.out) + at;
    const T* residual = p.residual ? static_cast<const T*>(p.residual) + at : nullptr;
    if (left == kL) {
      if (residual) v += load(residual);
      store(out, activate<float>(p.activation, v));
    } else {
      if (residual) v += load_partial(residual, left);
      store_partial(out, activate<float>(p.activation, v), left);
    }
  }
};

// A chunk passes its three stages in one thread, in memory of that thread.
template <class T, int M>
void run_private(const Job<T, M>& whole, std::int64_t chunk, std::int64_t threads) {
  const std::int64_t tiles = whole.grid.tiles(), chunks = (tiles + chunk - 1) / chunk;
  const std::int64_t image_size = whole.kPoints * whole.image_step, product_size = whole.kPoints * whole.product_step;
  Buffer<float> scratch(threads * (image_size + product_size));
  Buffer<const float*> rows(threads * chunk);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const int thread = thread_index();
    Job<T, M> job = whole;
    job.image = scratch.data() + thread * (image_size + product_size);
    job.product = job.image + image_size;
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t task = 0; task < whole.p.groups * chunks; ++task) {
      const std::int64_t group = task / chunks, i = task % chunks;
      const std::int64_t first = tiles * i / chunks, count = tiles * (i + 1) / chunks - first;
      for (std::int64_t t = 0; t < count; ++t) job.transform_image(group, first + t, t);
      for (int point = 0; point < job.kPoints; ++point)
        job.multiply_point(group, point, 0, count, rows.data() + thread * chunk);
      for (std::int64_t t = 0; t < count; ++t) job.transform_product(group, first + t, t);
    }
  }
}

// Each stage of a chunk is shared by all threads.
template <class T, int M>
void run_shared(Job<T, M>& job, std::int64_t chunk, std::int64_t threads) {
  const std::int64_t tiles = job.grid.tiles();
  Buffer<float> image(job.kPoints * job.image_step), product(job.kPoints * job.product_step);
  job.image = image.data();
  job.product = product.data();

  std::int64_t block = kRowBlockBytes / 4 / (job.p.channels + 1) / kTileRows * kTileRows;
  if (block < 2 * kTileRows) block = 2 * kTileRows;
  Buffer<const float*> rows(threads * chunk);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const int thread = thread_index();
    for (std::int64_t group = 0; group < job.p.groups; ++group)
      for (std::int64_t first = 0; first < tiles; first += chunk) {
        const std::int64_t count = tiles - first < chunk ? tiles - first : chunk;
#pragma omp for schedule(static)
        for (std::int64_t i = 0; i < count; ++i) job.transform_image(group, first + i, i);
        const std::int64_t blocks = (count + block - 1) / block;
#pragma omp for schedule(dynamic, 1)
        for (std::int64_t task = 0; task < job.kPoints * blocks; ++task) {
          const std::int64_t b = task % blocks;
          job.multiply_point(group, static_cast<int>(task / blocks), count * b / blocks, count * (b + 1) / blocks,
                             rows.data() + thread * chunk);
        }
#pragma omp for schedule(static)
        for (std::int64_t i = 0; i < count; ++i) job.transform_product(group, first + i, i);
      }
  }
}

template <class T, int M>
void run(const ConvProblem& p) {
  Job<T, M> job{p, static_cast<const float*>(p.packed), nullptr, nullptr, nullptr, nullptr, WinogradGrid<M>(p), 0, 0,
                0, FilterPanels<float>(p.filters)};
  const std::int64_t tiles = job.grid.tiles(), threads = p.num_threads < 1 ? 1 : p.num_threads;
  if (tiles == 0 || p.filters == 0) return;
  job.product_pitch = round_up(p.filters);
  Buffer<T> zeros(round_up(p.channels));
  Buffer<float> bias(p.groups * p.filters + kL);
  for (std::int64_t i = 0; i < round_up(p.channels); ++i) zeros[i] = T{};
  for (std::int64_t i = 0; p.bias && i < p.groups * p.filters + kL; ++i)
    bias[i] = i < p.groups * p.filters ? to_compute(static_cast<const T*>(p.bias)[i]) : 0;
  job.bias = p.bias ? bias.data() : nullptr;
  job.zeros = zeros.data();

  const std::int64_t u = job.filter_bytes();
  const bool own = tiles >= threads * (u <= kNearFilterBytes ? kTileRows : kLeastChunk);
  const std::int64_t tile_bytes = 4 * job.kPoints * (p.channels + job.product_pitch);
  std::int64_t wanted =
      (u <= kSmallFilterBytes ? kSmallChunkBytes : kLargeChunkBytes) * (own ? 1 : threads) / tile_bytes;
  if (wanted < kLeastChunk) wanted = kLeastChunk;
  std::int64_t chunks = (tiles + wanted - 1) / wanted;
  if (own) chunks = (chunks + threads - 1) / threads * threads;
  const std::int64_t chunk = (tiles + chunks - 1) / chunks;
  // A step that is a multiple of the page size would put all points of a tile into the same set of a cache.
  job.image_step = round_up(chunk * p.channels) + kL;
  job.product_step = chunk * job.product_pitch + kL;
  own ? run_private(job, chunk, threads) : run_shared(job, chunk, threads);
}

// The filters of a panel in the order of the direct sum, [tap][channel][columns], at every point of the transform.
template <int M>
void transform_filters(const ConvProblem& p, const FilterPanels<float>& panels, std::int64_t panel, const float* taps,
                       float* out) {
  using W = Winograd<M>;
  const std::int64_t pitch = panels.vectors(panel) * kL, tap_step = p.channels * pitch;
  const std::int64_t point_step = panels.columns() * p.channels;
  for (std::int64_t i = 0; i < p.channels * pitch; i += kL) {
    Vec<float> along_x[3][W::kTile];
    for (int r = 0; r < 3; ++r) {
      const float* from = taps + 3 * r * tap_step + i;
      const Vec<float> g0 = load(from), g1 = load(from + tap_step), g2 = load(from + 2 * tap_step);
      for (int t = 0; t < W::kTile; ++t)
        along_x[r][t] = g0 * W::kFilter[t][0] + g1 * W::kFilter[t][1] + g2 * W::kFilter[t][2];
    }
    for (int s = 0; s < W::kTile; ++s)
      for (int t = 0; t < W::kTile; ++t)
        store(out + (s * W::kTile + t) * point_step + i,
              along_x[0][t] * W::kFilter[s][0] + along_x[1][t] * W::kFilter[s][1] + along_x[2][t] * W::kFilter[s][2]);
  }
}

template <class T, int M>
void pack(const ConvProblem& p, float* out) {
  const FilterPanels<float> panels(p.filters);
  const std::int64_t points = Winograd<M>::kTile * Winograd<M>::kTile, size = panels.columns() * p.channels;
  const std::int64_t threads = p.num_threads < 1 ? 1 : p.num_threads;
  const std::int64_t scratch_size = 9 * p.channels * kTileColumns<float>;
  Buffer<float> scratch(threads * scratch_size);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1)
  for (std::int64_t i = 0; i < p.groups * panels.count; ++i) {
    const int thread = thread_index();
    const std::int64_t group = i / panels.count, panel = i % panels.count;
    float* taps = scratch.data() + thread * scratch_size;
    pack_filter_panel<T>(p, panels, group, panel, taps);
    transform_filters<M>(p, panels, panel, taps, out + group * points * size + panels.first(panel) * p.channels);
  }
}

}  // namespace

bool winograd_fits(const ConvProblem& p) {
  if (p.dtype == DType::f64 || (!p.channels_last && !is_dense_planar(p)) || p.num_tap_rows != 3 ||
      p.num_tap_columns != 3)
    return false;
  if (p.stride[0] != 1 || p.stride[1] != 1 || p.channels < 1) return false;
  for (int t = 1; t < 3; ++t)
    if (p.tap_rows[t].offset != p.tap_rows[t - 1].offset + 1 ||
        p.tap_columns[t].offset != p.tap_columns[t - 1].offset + 1)
      return false;
  return true;
}

std::int64_t winograd_packed_bytes(const ConvProblem& p) {
  const std::int64_t tile = p.algorithm == Algorithm::winograd4 ? 6 : 4;
  return p.groups * tile * tile * FilterPanels<float>(p.filters).columns() * p.channels * 4;
}

void pack_winograd(const ConvProblem& p, void* out) {
  with_float(p.dtype, [&](auto element) {
    using T = decltype(element);
    float* to = static_cast<float*>(out);
    p.algorithm == Algorithm::winograd4 ? pack<T, 4>(p, to) : pack<T, 2>(p, to);
  });
}

void run_winograd(const ConvProblem& p) {
  with_float(p.dtype, [&](auto element) {
    using T = decltype(element);
    p.algorithm == Algorithm::winograd4 ? run<T, 4>(p) : run<T, 2>(p);
  });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
