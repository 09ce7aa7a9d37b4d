// NCHW layers whose fastest kernel reads channels-last: the image is turned, the layer run, its output turned back.
//
// Turning moves every number of image and output twice through squares of registers; that is worth it where the
// kernel behind it saves more than a multiplication or two a number: Winograd's algorithm, and bfloat16 where the
// processor multiplies it. Whole images go in groups, large ones in bands of rows, such that the turned copies stay in
// the caches; the filters are packed once for all of them.
#include "buffer.hpp"
#include "conv2d_filters.hpp"
#include "conv2d_problem.hpp"
#include "shuffle.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kPartBytes = 3 << 20;  // of turned image and output at a time
constexpr std::int64_t kBandRows = 4;         // a band has a multiple: whole tiles of Winograd's algorithm
constexpr std::int64_t kBlock = 64;           // rows of a matrix in a task

// A matrix [rows][columns] in memory, one of several alike.
struct Matrices {
  std::int64_t rows, columns, row_step, step;  // strides of a row and of a matrix, in elements
};

// to[n][column][row] = from[n][row][column]; consecutive columns on one side are consecutive rows on the other.
template <class T>
void turn(const T* from, const Matrices& m, std::int64_t count, T* to, std::int64_t to_row_step, std::int64_t to_step,
          int threads) {
  const std::int64_t blocks = (m.rows + kBlock - 1) / kBlock;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (std::int64_t task = 0; task < count * blocks; ++task) {
    const std::int64_t n = task / blocks, first = task % blocks * kBlock;
    const std::int64_t rows = m.rows - first < kBlock ? m.rows - first : kBlock;
    transpose_block<false>(from + n * m.step + first * m.row_step, m.row_step, rows, m.columns,
                           to + n * to_step + first, to_row_step);
  }
}

// Images [first, first + count) and their output rows [begin, end): what is turned and run at a time.
struct Part {
  std::int64_t first, count, begin, end;
};

template <class T>
struct Turned {
  const ConvProblem& p;
  const int threads;
  const std::int64_t in_channels, out_channels;
  T *in, *out, *residual;
  Tap* rows;
  const void* packed;

  void run(const Part& part) const {
    const std::int64_t nearest = p.tap_rows[0].offset, farthest = p.tap_rows[p.num_tap_rows - 1].offset;
    std::int64_t top = part.begin * p.stride[0] + nearest, bottom = (part.end - 1) * p.stride[0] + farthest + 1;
    top = top < 0 ? 0 : top < p.in_height ? top : p.in_height;
    bottom = bottom < top ? top : bottom < p.in_height ? bottom : p.in_height;
    const std::int64_t height = part.end - part.begin, in_pixels = (bottom - top) * p.in_width,
                       out_pixels = height * p.out_width;

    ConvProblem q = p;
    q.channels_last = true;
    q.batch = part.count;
    q.in_height = bottom - top;
    q.out_height = height;
    q.in_channel = q.out_channel = 1;
    q.in_column = in_channels, q.in_row = p.in_width * in_channels, q.in_batch = in_pixels * in_channels;
    q.out_column = out_channels, q.out_row = p.out_width * out_channels, q.out_batch = out_pixels * out_channels;
    for (std::int64_t r = 0; r < p.num_tap_rows; ++r)
      rows[r] = {p.tap_rows[r].offset + part.begin * p.stride[0] - top, p.tap_rows[r].weight};
    q.tap_rows = rows;
    q.in = in, q.out = out, q.residual = p.residual ? residual : nullptr;
    q.packed = packed;

    const std::int64_t at = part.first * p.out_batch + part.begin * p.out_row;
    const Matrices side{out_channels, out_pixels, p.out_channel, p.out_batch};
    turn(static_cast<const T*>(p.in) + part.first * p.in_batch + top * p.in_row,
         {in_channels, in_pixels, p.in_channel, p.in_batch}, part.count, in, in_channels, q.in_batch, threads);
    if (p.residual)
      turn(static_cast<const T*>(p.residual) + at, side, part.count, residual, out_channels, q.out_batch, threads);
    run_dense_last(q);
    turn(out, {out_pixels, out_channels, out_channels, q.out_batch}, part.count, static_cast<T*>(p.out) + at,
         p.out_channel, p.out_batch, threads);
  }
};

template <class T>
void run(const ConvProblem& p) {
  if (p.batch * p.out_height * p.out_width == 0 || p.filters == 0) return;
  const std::int64_t in_channels = p.groups * p.channels, out_channels = p.groups * p.filters;
  const std::int64_t in_row = in_channels * p.in_width, out_row = out_channels * p.out_width;
  const std::int64_t size = in_row * p.in_height + out_row * p.out_height, most = kPartBytes / sizeof(T);
  std::int64_t images = most / (size + 1), band = p.out_height;
  if (images < 1) {
    images = 1;
    band = most / (in_row * p.stride[0] + out_row) / kBandRows * kBandRows;
    if (band < 2 * kBandRows) band = 2 * kBandRows;
    if (band > p.out_height) band = p.out_height;
  }
  if (images > p.batch) images = p.batch;
  const std::int64_t reach = p.tap_rows[p.num_tap_rows - 1].offset - p.tap_rows[0].offset;
  std::int64_t in_rows = (band - 1) * p.stride[0] + reach + 1;
  if (in_rows > p.in_height) in_rows = p.in_height;
  Buffer<T> in(images * in_rows * in_row), out(images * band * out_row),
      residual(p.residual ? images * band * out_row : 0);
  Buffer<Tap> rows(p.num_tap_rows);

  ConvProblem packing = p;  // the strides decide how bfloat16 is packed
  packing.channels_last = true;
  packing.in_column = in_channels;
  const Filters filters(packing);
  const Turned<T> job{p,
                      p.num_threads < 1 ? 1 : p.num_threads,
                      in_channels,
                      out_channels,
                      in.data(),
                      out.data(),
                      residual.data(),
                      rows.data(),
                      filters.packed()};
  for (std::int64_t n = 0; n < p.batch; n += images)
    for (std::int64_t y = 0; y < p.out_height; y += band)
      job.run({n, p.batch - n < images ? p.batch - n : images, y, p.out_height - y < band ? p.out_height : y + band});
}

}  // namespace

bool is_dense_planar(const ConvProblem& p) {
  return p.in_column == 1 && p.in_row == p.in_width && p.in_channel == p.in_height * p.in_row && p.out_column == 1 &&
         p.out_row == p.out_width && p.out_channel == p.out_height * p.out_row;
}

void run_turned(const ConvProblem& p) {
  with_float(p.dtype, [&](auto element) { return run<decltype(element)>(p); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
