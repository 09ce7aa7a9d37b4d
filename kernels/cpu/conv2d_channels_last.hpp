// Channels-last convolution as an implicit matrix product: rows are pixels, columns are filters.
//
// No image is unfolded. The row of A that a pixel needs is one or a few contiguous runs of the image itself
// (a kernel row of a channels-last image is `kernel width * channels` consecutive numbers), so the tile reads it
// through pointers; only pixels whose window leaves the image get a private copy with zeros. Filters are packed
// once a call, or once for all calls, into panels [K][columns]. Blocking: a panel's slice of kDepthBlock rows stays in
// L1 while the tiles of a block of pixels, whose image rows stay in L2, go over it; partial sums of the block wait in
// a small buffer. Every output is summed in one fixed order of K, so neither blocking nor threads change a bit.
//
// The element of A that the tile reads is the image's own where that is what it computes with; a pair of bfloat16
// where the processor multiplies those (conv2d_bf16.cpp); and float32 that a block's windows are widened to otherwise.
#pragma once
#include "buffer.hpp"
#include "conv2d_epilogue.hpp"
#include "conv2d_pack.hpp"
#include "conv2d_past_caches.hpp"
#include "conv2d_problem.hpp"
#include "gemm_tile.hpp"
#include "thread_index.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kShortDepth = 64;

// How K is cut: into segments that are consecutive numbers of the image, a kernel row each or a tap each.
struct Segments {
  Segments(const ConvProblem& p, int terms) : whole_rows(p.taps() > 0) {
    for (std::int64_t t = 1; t < p.num_tap_columns; ++t)
      whole_rows &= p.tap_columns[t].offset == p.tap_columns[t - 1].offset + 1;
    if (p.num_tap_columns > 1) whole_rows &= p.in_column == p.channels;
    count = whole_rows ? p.num_tap_rows : p.taps();
    run = whole_rows ? p.num_tap_columns * p.channels : p.channels;
    length = (run + terms - 1) / terms;
  }
  std::int64_t depth() const { return count * length; }  // of K, in elements

  bool whole_rows;
  std::int64_t count, run, length;  // segments; numbers of the image and elements of A in one
};

template <class T, class A>
struct ChannelsLast {
  using C = SumOf<A>;
  static constexpr int kTerms = Arithmetic<A>::kTerms;
  static constexpr bool kMustConvert = sizeof(T) * kTerms != sizeof(A);
  static constexpr std::int64_t kDepthBlock = 384;
  static constexpr std::int64_t kBlockBytes = 96 * 1024;  // of image that a block of pixels reads, about

  const ConvProblem& p;
  Segments segments;
  FilterPanels<C> panels;
  std::int64_t pixels, block;
  const A* zeros;
  const A* packed;  // [group][panel][K][columns]
  const C* bias;    // [groups * filters], padded; null for none
  bool past_caches;

  struct Scratch {
    const A** rows;       // [segments][block]
    A* copies;            // [block][K]: windows that leave the image, or all of them where T must be converted
    C* sums;              // [block][kTileColumns]
    std::int64_t* where;  // [block]: offset of the pixel in the output
  };

  bool must_copy() const { return kMustConvert || segments.run % kTerms != 0; }
  bool may_copy() const {
    const std::int64_t left = p.tap_columns[0].offset;
    const std::int64_t right = left + (p.out_width - 1) * p.stride[1] + p.num_tap_columns;
    return must_copy() || (segments.whole_rows && (left < 0 || right > p.in_width));
  }

  // Numbers of the image, from number `at` of a segment on.
  static void copy_run(A* to, std::int64_t at, const T* from, std::int64_t count) {
    if constexpr (kTerms > 1) {
      __builtin_memcpy(reinterpret_cast<char*>(to) + at * sizeof(T), from, count * sizeof(T));
    } else {
      widen_run(from, count, to + at);
    }
  }

  // Copies one segment of a pixel's window, zeros where it leaves the image. The row is inside.
  void copy_segment(A* to, const T* row, std::int64_t column, std::int64_t tap) const {
    const std::int64_t first = segments.whole_rows ? 0 : tap, last = segments.whole_rows ? p.num_tap_columns : tap + 1;
    __builtin_memset(static_cast<void*>(to), 0, segments.length * sizeof(A));
    for (std::int64_t t = first; t < last; ++t) {
      const std::int64_t x = column + p.tap_columns[t].offset;
      if (x >= 0 && x < p.in_width) copy_run(to, (t - first) * p.channels, row + x * p.in_column, p.channels);
    }
  }

  // Finds the row pointers and output offsets of pixels [first, first + count), by runs that lie in one row of the
  // output: where a window has few numbers, finding them a pixel at a time costs a tenth of the arithmetic.
  void prepare(const Scratch& s, std::int64_t first, std::int64_t count, std::int64_t group) const {
    const std::int64_t row_segments = segments.whole_rows ? 1 : p.num_tap_columns;
    for (std::int64_t i = 0, run; i < count; i += run) {
      const std::int64_t x = (first + i) % p.out_width, row = (first + i) / p.out_width;
      const std::int64_t y = row % p.out_height, n = row / p.out_height;
      run = p.out_width - x < count - i ? p.out_width - x : count - i;
      const std::int64_t at = n * p.out_batch + y * p.out_row + x * p.out_column + group * p.filters;
      for (std::int64_t j = 0; j < run; ++j) s.where[i + j] = at + j * p.out_column;
      const T* image = static_cast<const T*>(p.in) + n * p.in_batch + group * p.channels;
      for (std::int64_t segment = 0; segment < segments.count; ++segment) {
        const std::int64_t iy = y * p.stride[0] + p.tap_rows[segment / row_segments].offset;
        if (iy >= 0 && iy < p.in_height)
          point(s, segment, i, run, image + iy * p.in_row, x, segment % row_segments);
        else
          for (std::int64_t j = 0; j < run; ++j) s.rows[segment * block + i + j] = zeros;
      }
    }
  }

  // Points a segment of pixels [i, i + run) of the block, the first in column x of the output, at this row of the
  // image.
  void point(const Scratch& s, std::int64_t segment, std::int64_t i, std::int64_t run, const T* row, std::int64_t x,
             std::int64_t tap) const {
    const std::int64_t step = p.stride[1], left = x * step + p.tap_columns[tap].offset;
    const std::int64_t room = p.in_width - left - (segments.whole_rows ? p.num_tap_columns : 1);
    // Pixels [begin, end) of the run see the segment inside the image.
    std::int64_t end = room < 0 ? 0 : room / step + 1, begin = left < 0 ? (step - 1 - left) / step : 0;
    if (end > run) end = run;
    if (begin > end) begin = end;

    const A** const pointers = s.rows + segment * block + i;
    const auto copy = [&](std::int64_t j) {
      A* to = s.copies + (i + j) * segments.depth() + segment * segments.length;
      copy_segment(to, row, (x + j) * step, tap);
      pointers[j] = to;
    };
    const auto point_outside = [&](std::int64_t j) { segments.whole_rows ? copy(j) : void(pointers[j] = zeros); };
    for (std::int64_t j = 0; j < begin; ++j) point_outside(j);
    for (std::int64_t j = end; j < run; ++j) point_outside(j);
    if (must_copy()) {
      for (std::int64_t j = begin; j < end; ++j) copy(j);
    } else {
      const T* const window = row + left * p.in_column;
      for (std::int64_t j = begin; j < end; ++j)
        pointers[j] = reinterpret_cast<const A*>(window + j * step * p.in_column);
    }
  }

  // Whether a tile of this panel can go straight from the registers to the output.
  bool is_direct(int columns, int pitch) const {
    const bool simple =
        p.activation == Activation::none || p.activation == Activation::relu || p.activation == Activation::relu6;
    return sizeof(T) == sizeof(C) && columns == pitch && simple && p.out_row == p.out_width * p.out_column &&
           p.out_batch == p.out_height * p.out_row;
  }

  void run_panel(const Scratch& s, std::int64_t count, std::int64_t group, std::int64_t panel) const {
    const std::int64_t first_filter = panels.first(panel), left = p.filters - first_filter;
    const int vectors = panels.vectors(panel), pitch = vectors * kLanes<C>;
    const int columns = static_cast<int>(left < pitch ? left : pitch);
    const A* b = packed + (group * panels.columns() + first_filter) * segments.depth();
    const C* panel_bias = bias ? bias + group * p.filters + first_filter : nullptr;
    const bool direct = is_direct(columns, pitch);
    const std::int64_t length = segments.length;
    // Steps over K: slices of one segment where segments are long, several segments where they are short.
    const std::int64_t slices = length > kDepthBlock ? (length + kDepthBlock - 1) / kDepthBlock : 1;
    const std::int64_t together = length > 0 && length < kDepthBlock ? kDepthBlock / length : 1;
    const std::int64_t steps = (segments.count + together - 1) / together * slices;
    TileArgs<A> t{};
    t.a_pitch = block;
    t.high = p.activation == Activation::relu6 ? C(6) : C(__builtin_inf());
    for (std::int64_t step = 0; step < steps || step == 0; ++step) {
      const bool last = step + 1 >= steps;
      const std::int64_t segment = step / slices * together, slice = step % slices;
      t.a_offset = length * slice / slices;
      t.length = length * (slice + 1) / slices - t.a_offset;
      t.segments = segments.count - segment < together ? segments.count - segment : together;
      t.b = b + (segment * length + t.a_offset) * pitch;
      t.column_bias = last && direct ? panel_bias : nullptr;
      t.residual =
          last && direct && p.residual ? static_cast<const C*>(p.residual) + s.where[0] + first_filter : nullptr;
      t.clamp = last && direct && p.activation != Activation::none;
      t.a = s.rows + segment * block;
      t.init = step ? s.sums : nullptr;
      t.c = last && direct ? static_cast<C*>(p.out) + s.where[0] + first_filter : s.sums;
      t.c_pitch = last && direct ? p.out_column : kTileColumns<C>;
      t.past_caches = last && direct && past_caches;
      multiply(count, vectors, t);
    }
    if (direct) return;
    for (std::int64_t r = 0; r < count; ++r) {
      const std::int64_t at = s.where[r] + first_filter;
      T* const out = static_cast<T*>(p.out) + at;
      const C* const sums = s.sums + r * kTileColumns<C>;
      const T* const residual = p.residual ? static_cast<const T*>(p.residual) + at : nullptr;
      if constexpr (sizeof(T) == sizeof(float)) {
        if (past_caches) {
          finish_run<T, true>(out, sums, columns, panel_bias, 1, residual, p.activation);
          continue;
        }
      }
      finish_run(out, sums, columns, panel_bias, 1, residual, p.activation);
    }
  }
};

// p.packed must be set.
template <class T, class A>
void run_blocks(const ConvProblem& p) {
  using Job = ChannelsLast<T, A>;
  using C = SumOf<A>;
  const std::int64_t pixels = p.batch * p.out_height * p.out_width;
  if (pixels == 0 || p.filters == 0) return;
  Job job{p,
          Segments(p, Job::kTerms),
          FilterPanels<C>(p.filters),
          pixels,
          0,
          nullptr,
          static_cast<const A*>(p.packed),
          nullptr,
          false};
  job.past_caches = exceeds_caches(p) && writes_aligned_vectors(p, p.filters);
  const std::int64_t depth = job.segments.depth();

  // Tasks are (block of pixels) x (range of panels) x group; enough of them for every thread, where possible.
  const std::int64_t threads = p.num_threads < 1 ? 1 : p.num_threads;
  std::int64_t block = Job::kBlockBytes / static_cast<std::int64_t>(sizeof(T)) / (p.channels ? p.channels : 1);
  if (job.must_copy() && block > 256 * 1024 / (depth * 4 + 1)) block = 256 * 1024 / (depth * 4 + 1);
  if (block > 16 * kTileRows) block = 16 * kTileRows;
  if (block < 4 * kTileRows) block = 4 * kTileRows;
  const std::int64_t panels = job.panels.count;
  const std::int64_t blocks = (pixels + block - 1) / block;
  std::int64_t splits = 1;
  if (blocks * p.groups < 4 * threads && threads > 1) {
    splits = (4 * threads + blocks * p.groups - 1) / (blocks * p.groups);
    if (splits > panels) splits = panels;
  }
  block = (pixels + blocks - 1) / blocks;
  job.block = block;

  const std::int64_t all_filters = p.groups * p.filters;
  const bool bias_fits = sizeof(T) == sizeof(C) && p.filters % kLanes<C> == 0;  // it is read as whole vectors
  const std::int64_t bias_size = p.bias && !bias_fits ? all_filters + kTileColumns<C> : 0;
  const std::int64_t zeros_size = job.segments.length + 1;
  const std::int64_t rows_size = job.segments.count * block, sums_size = block * kTileColumns<C>;
  const std::int64_t copy_size = job.may_copy() ? block * depth + kLanes<C> : 0;
  const std::size_t each = Buffer<const A*>::bytes_of(rows_size) + Buffer<A>::bytes_of(copy_size) +
                           Buffer<C>::bytes_of(sums_size) + Buffer<std::int64_t>::bytes_of(block);
  Buffer<char> memory(Buffer<C>::bytes_of(bias_size) + Buffer<A>::bytes_of(zeros_size) + threads * each);
  Cutter shared(memory.data());
  C* const bias = shared.take<C>(bias_size);
  A* const zeros = shared.take<A>(zeros_size);
  char* const own = shared.take<char>(0);
  __builtin_memset(static_cast<void*>(zeros), 0, job.segments.length * sizeof(A));
  for (std::int64_t i = 0; i < bias_size; ++i)
    bias[i] = i < all_filters ? to_compute(static_cast<const T*>(p.bias)[i]) : C(0);
  if (p.bias) job.bias = bias_fits ? static_cast<const C*>(p.bias) : bias;
  job.zeros = zeros;

  const std::int64_t tasks = blocks * splits * p.groups;
  // Where K is short most of the work is to write the output, and each thread takes its tasks in one run: then it
  // mostly meets lines that it has in its own cache from the layer before, or leaves for its part of the next.
  const int grain = static_cast<int>(depth * Job::kTerms <= kShortDepth ? (tasks + threads - 1) / threads : 1);
#pragma omp parallel for schedule(dynamic, grain) num_threads(threads) if (threads > 1 && tasks > 1)
  for (std::int64_t task = 0; task < tasks; ++task) {
    Cutter mine(own + thread_index() * each);
    typename Job::Scratch s;
    s.rows = mine.take<const A*>(rows_size);
    s.copies = mine.take<A>(copy_size);
    s.sums = mine.take<C>(sums_size);
    s.where = mine.take<std::int64_t>(block);
    const std::int64_t group = task % p.groups, split = task / p.groups % splits;
    const std::int64_t b = task / p.groups / splits;
    const std::int64_t first = pixels * b / blocks, count = pixels * (b + 1) / blocks - first;
    job.prepare(s, first, count, group);
    for (std::int64_t panel = panels * split / splits; panel < panels * (split + 1) / splits; ++panel)
      job.run_panel(s, count, group, panel);
    if (job.past_caches) settle_streams();
  }
}

// Calls each(group, panel) for every panel of every group, on all threads.
template <class C, class F>
void for_each_panel(const ConvProblem& p, const FilterPanels<C>& panels, F each) {
  const int threads = p.num_threads < 1 ? 1 : p.num_threads;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1)
  for (std::int64_t i = 0; i < p.groups * panels.count; ++i) each(i / panels.count, i % panels.count);
}

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf
