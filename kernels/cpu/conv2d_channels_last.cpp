// Channels-last convolution as an implicit matrix product: rows are pixels, columns are filters.
//
// No image is unfolded. The row of A that a pixel needs is one or a few contiguous runs of the image itself
// (a kernel row of a channels-last image is `kernel width * channels` consecutive numbers), so the tile reads it
// through pointers; only pixels whose window leaves the image get a private copy with zeros. Filters are packed
// once a call into panels [K][columns]. Blocking: a panel's slice of kDepthBlock rows stays in L1 while the tiles
// of a block of pixels, whose image rows stay in L2, go over it; partial sums of the block wait in a small buffer.
// Every output is summed in one fixed order of K, so neither blocking nor threads change a bit.
#include "buffer.hpp"
#include "conv2d_epilogue.hpp"
#include "conv2d_pack.hpp"
#include "conv2d_problem.hpp"
#include "gemm_tile.hpp"

#ifdef _OPENMP
extern "C" int omp_get_thread_num();
#endif

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kDepthBlock = 384;
constexpr std::int64_t kBlockBytes = 96 * 1024;  // of image that a block of pixels reads, about

template <class T>
struct ChannelsLast {
  using C = Compute<T>;
  static constexpr bool kMustConvert = sizeof(T) != sizeof(C);

  const ConvProblem& p;
  std::int64_t segments, length;  // of K, as the tile sees it
  std::int64_t pixels, block;
  bool whole_rows;  // a segment is a kernel row, not a single tap
  const C* zeros;
  const C* packed;  // [group][panel][K][columns]
  const C* bias;    // [groups * filters], padded; null for none

  struct Scratch {
    const C** rows;       // [segments][block]
    C* copies;            // [block][K]: windows that leave the image, or all of them where T must be converted
    C* sums;              // [block][kTileColumns]
    std::int64_t* where;  // [block]: offset of the pixel in the output
  };

  std::int64_t panels() const { return (p.filters + kTileColumns<C> - 1) / kTileColumns<C>; }

  void copy_run(C* to, const T* from, std::int64_t count) const {
    std::int64_t i = 0;
    for (; i + kLanes<C> <= count; i += kLanes<C>) store(to + i, load(from + i));
    for (; i < count; ++i) to[i] = to_compute(from[i]);
  }

  // Copies one segment of a pixel's window, zeros where it leaves the image. The row is inside.
  void copy_segment(C* to, const T* row, std::int64_t column, std::int64_t tap) const {
    const std::int64_t first = whole_rows ? 0 : tap, last = whole_rows ? p.num_tap_columns : tap + 1;
    for (std::int64_t t = first; t < last; ++t, to += p.channels) {
      const std::int64_t x = column + p.tap_columns[t].offset;
      if (x >= 0 && x < p.in_width) {
        copy_run(to, row + x * p.in_column, p.channels);
      } else {
        for (std::int64_t c = 0; c < p.channels; ++c) to[c] = C(0);
      }
    }
  }

  // Finds the row pointers and output offsets of pixels [first, first + count).
  void prepare(const Scratch& s, std::int64_t first, std::int64_t count, std::int64_t group) const {
    const T* image = static_cast<const T*>(p.in) + group * p.channels;
    const std::int64_t plane = p.out_height * p.out_width;
    std::int64_t n = first / plane, y = first % plane / p.out_width, x = first % p.out_width;
    const std::int64_t row_segments = whole_rows ? 1 : p.num_tap_columns;
    for (std::int64_t i = 0; i < count; ++i) {
      s.where[i] = n * p.out_batch + y * p.out_row + x * p.out_column + group * p.filters;
      const std::int64_t column = x * p.stride[1];
      std::int64_t segment = 0;
      for (std::int64_t r = 0; r < p.num_tap_rows; ++r) {
        const std::int64_t iy = y * p.stride[0] + p.tap_rows[r].offset;
        const T* row = image + n * p.in_batch + iy * p.in_row;
        for (std::int64_t t = 0; t < row_segments; ++t, ++segment) {
          const C*& pointer = s.rows[segment * block + i];
          if (iy < 0 || iy >= p.in_height) {
            pointer = zeros;
            continue;
          }
          const std::int64_t left = column + p.tap_columns[t].offset;
          const std::int64_t right = left + (whole_rows ? p.num_tap_columns : 1);
          if (!kMustConvert && left >= 0 && right <= p.in_width) {
            pointer = reinterpret_cast<const C*>(row + left * p.in_column);
          } else if (!whole_rows && (left < 0 || right > p.in_width)) {
            pointer = zeros;
          } else {
            C* copy = s.copies + i * p.depth() + segment * length;
            copy_segment(copy, row, column, t);
            pointer = copy;
          }
        }
      }
      if (++x == p.out_width) {
        x = 0;
        if (++y == p.out_height) y = 0, ++n;
      }
    }
  }

  void run_panel(const Scratch& s, std::int64_t count, std::int64_t group, std::int64_t panel) const {
    const std::int64_t first_filter = panel * kTileColumns<C>;
    const std::int64_t left = p.filters - first_filter;
    const int columns = static_cast<int>(left < kTileColumns<C> ? left : kTileColumns<C>);
    const int vectors = (columns + kLanes<C> - 1) / kLanes<C>;
    const std::int64_t pitch = vectors * kLanes<C>;
    const C* b = packed + (group * panels() + panel) * p.depth() * kTileColumns<C>;
    const C* panel_bias = bias ? bias + group * p.filters + first_filter : nullptr;
    // A full tile with nothing more to do goes straight from the registers to the output.
    const bool direct = !kMustConvert && columns == pitch && !p.residual && p.activation == Activation::none &&
                        p.out_row == p.out_width * p.out_column && p.out_batch == p.out_height * p.out_row;
    // Steps over K: slices of one segment where segments are long, several segments where they are short.
    const std::int64_t slices = length > kDepthBlock ? (length + kDepthBlock - 1) / kDepthBlock : 1;
    const std::int64_t together = length > 0 && length < kDepthBlock ? kDepthBlock / length : 1;
    const std::int64_t steps = (segments + together - 1) / together * slices;
    TileArgs<C> t;
    t.a_pitch = block;
    t.row_bias = nullptr;
    for (std::int64_t step = 0; step < steps || step == 0; ++step) {
      const bool last = step + 1 >= steps;
      const std::int64_t segment = step / slices * together, slice = step % slices;
      t.a_offset = length * slice / slices;
      t.length = length * (slice + 1) / slices - t.a_offset;
      t.segments = segments - segment < together ? segments - segment : together;
      t.b = b + (segment * length + t.a_offset) * pitch;
      t.column_bias = last && direct ? panel_bias : nullptr;
      t.a = s.rows + segment * block;
      t.init = step ? s.sums : nullptr;
      t.c = last && direct ? static_cast<C*>(p.out) + s.where[0] + first_filter : s.sums;
      t.c_pitch = last && direct ? p.out_column : kTileColumns<C>;
      multiply(count, vectors, t);
    }
    if (direct) return;
    for (std::int64_t r = 0; r < count; ++r) {
      const std::int64_t at = s.where[r] + first_filter;
      finish_run(static_cast<T*>(p.out) + at, s.sums + r * kTileColumns<C>, columns, panel_bias, 1,
                 p.residual ? static_cast<const T*>(p.residual) + at : nullptr, p.activation);
    }
  }
};

template <class T>
void run(ConvProblem p) {
  using C = Compute<T>;
  const std::int64_t pixels = p.batch * p.out_height * p.out_width;
  if (pixels == 0 || p.filters == 0) return;
  if (p.taps() == 0) p.num_tap_rows = p.num_tap_columns = 0;
  ChannelsLast<T> job{p, 0, 0, pixels, 0, true, nullptr, nullptr, nullptr};
  for (std::int64_t t = 1; t < p.num_tap_columns; ++t)
    job.whole_rows &= p.tap_columns[t].offset == p.tap_columns[t - 1].offset + 1;
  if (p.num_tap_columns > 1) job.whole_rows &= p.in_column == p.channels;
  job.segments = job.whole_rows ? p.num_tap_rows : p.taps();
  job.length = job.segments ? p.depth() / job.segments : 0;

  // Tasks are (block of pixels) x (range of panels) x group; enough of them for every thread, where possible.
  const std::int64_t threads = p.num_threads < 1 ? 1 : p.num_threads;
  std::int64_t block = kBlockBytes / static_cast<std::int64_t>(sizeof(C)) / (p.channels ? p.channels : 1);
  if (job.kMustConvert && block > 256 * 1024 / (p.depth() * 4 + 1)) block = 256 * 1024 / (p.depth() * 4 + 1);
  if (block > 16 * kTileRows) block = 16 * kTileRows;
  if (block < 4 * kTileRows) block = 4 * kTileRows;
  const std::int64_t panels = job.panels();
  std::int64_t blocks = (pixels + block - 1) / block;
  std::int64_t splits = 1;
  if (blocks * p.groups < 4 * threads && threads > 1) {
    splits = (4 * threads + blocks * p.groups - 1) / (blocks * p.groups);
    if (splits > panels) splits = panels;
  }
  job.block = block;

  Buffer<C> packed(p.groups * panels * p.depth() * kTileColumns<C>);
  Buffer<C> bias((p.bias ? p.groups * p.filters : 0) + kTileColumns<C>);
  Buffer<C> zeros(job.length + 1);
  Buffer<const C*> rows(threads * job.segments * block);
  const std::int64_t copy_size = block * p.depth() + kLanes<C>;
  Buffer<C> copies(threads * copy_size);
  Buffer<C> sums(threads * block * kTileColumns<C>);
  Buffer<std::int64_t> where(threads * block);
  for (std::int64_t i = 0; i < job.length; ++i) zeros.data()[i] = C(0);
  if (p.bias) {
    for (std::int64_t i = 0; i < p.groups * p.filters + kTileColumns<C>; ++i)
      bias.data()[i] = i < p.groups * p.filters ? to_compute(static_cast<const T*>(p.bias)[i]) : C(0);
    job.bias = bias.data();
  }
  job.zeros = zeros.data();
  job.packed = packed.data();

  const std::int64_t tasks = blocks * splits * p.groups;
#pragma omp parallel num_threads(threads) if (threads > 1 && tasks > 1)
  {
    int thread = 0;
#ifdef _OPENMP
    thread = omp_get_thread_num();
#endif
    const typename ChannelsLast<T>::Scratch s{
        rows.data() + thread * job.segments * block, copies.data() + thread * copy_size,
        sums.data() + thread * block * kTileColumns<C>, where.data() + thread * block};
#pragma omp for schedule(static)
    for (std::int64_t i = 0; i < p.groups * panels; ++i)
      pack_filter_panel<T>(p, i / panels, i % panels * kTileColumns<C>,
                           packed.data() + i * p.depth() * kTileColumns<C>);
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t task = 0; task < tasks; ++task) {
      const std::int64_t group = task % p.groups, split = task / p.groups % splits;
      const std::int64_t b = task / p.groups / splits;
      const std::int64_t first = pixels * b / blocks, count = pixels * (b + 1) / blocks - first;
      job.prepare(s, first, count, group);
      for (std::int64_t panel = panels * split / splits; panel < panels * (split + 1) / splits; ++panel)
        job.run_panel(s, count, group, panel);
    }
  }
}

}  // namespace

void run_channels_last(const ConvProblem& p) {
  return with_floating(p.dtype, [&](auto element) { return run<decltype(element)>(p); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
