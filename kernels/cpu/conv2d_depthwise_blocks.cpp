// Depthwise convolution of channels-last float32 images in register blocks: 4 to 8 output columns by one vector of
// channels. For each row of taps a block loads the row's weights and then slides along the input: a loaded vector
// feeds every output column and tap that needs it, so a 3x3 kernel costs 5 loads for 9 multiply-adds and a 5x5 one
// 11 for 25, and multiply-add is the limit, not the load ports. Columns outside the image are skipped by a bit mask,
// rows by the range of taps; nothing is padded. Bias starts the sums; clamps end them in registers.
//
// Blocking: a task is a band of output rows and a few vectors of channels. Inside it blocks go down the rows before
// they go along, so that the rows a block shares with the next one are still in L1, and the band's input, whose
// columns neighbouring blocks share, in L2. Bands are contiguous so that threads do not read each other's rows.
// Images too large for L3 come in the order of memory instead: blocks go along the rows, all channels at once, each
// asks for the lines of a later one, and outputs go past the caches.
// On Zen 4 a 3x3 costs 12 to 13 cycles a vector of outputs and a 5x5 27, where multiply-adds alone are 9 and 25; images
// from memory move 25 to 45 GB/s, where copies of that size move 28 to 50.
#include "buffer.hpp"
#include "conv2d_block_end.hpp"
#include "conv2d_past_caches.hpp"
#include "conv2d_problem.hpp"
#include "shuffle.hpp"
#include "thread_index.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr int kLeastColumns = 4, kMostColumns = 8;
constexpr std::int64_t kBlockBytes = 20 * 1024;  // of input under a block, within L1
constexpr std::int64_t kBandBytes = 384 * 1024;  // of input under a task, within L2
constexpr std::int64_t kAheadBytes = 4 * 1024;   // of an image row, at least, between what is fetched and what is used

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

struct Job {
  const ConvProblem& p;
  const float* weight;             // [taps][pitch]
  const float* bias;               // [pitch]
  std::int64_t pitch;              // channels in whole vectors
  const std::int64_t* row_offset;  // [tap rows]: of the image row, elements
  std::int64_t ahead;              // columns of output from a block to what it fetches from memory; 0: all is in cache
  BlockEnd end;
};

struct Task {
  std::int64_t n, first_row, last_row, first_channel, last_channel;
};

// Asks for the lines that the block `ahead` columns on reads for the first time: those of its last image rows, as many
// as the stride; and for the lines that it writes, unless they go past the caches.
template <int Step, int Columns>
__attribute__((noinline)) void fetch(const Job& job, const float* last_row, const float* out) {
  const ConvProblem& p = job.p;
  last_row += job.ahead * Step * p.in_column;
  for (std::int64_t r = 0; r < p.stride[0] && r < p.num_tap_rows; ++r, last_row -= p.in_row)
#pragma GCC unroll 16
    for (int j = 0; j < Columns * Step; ++j) __builtin_prefetch(last_row + j * p.in_column);
  if (job.end.past_caches) return;
  out += job.ahead * p.out_column;
#pragma GCC unroll 8
  for (int i = 0; i < Columns; ++i) __builtin_prefetch(out + i * p.out_column, 1);
}

// Output columns [x, x + Columns) of row y, for all channels of the task. Bit j of `inside` says whether input
// column x * Step + j, from the first tap on, is in the image.
template <int Taps, int Step, int Columns, bool Edge>
CVPERF_INLINE void run_block(const Job& job, const Task& task, std::int64_t y, std::int64_t x, std::int64_t first_tap,
                             std::int64_t last_tap, std::uint32_t inside) {
  constexpr int lanes = kLanes<float>, width = (Columns - 1) * Step + Taps;
  const ConvProblem& p = job.p;
  // Copies, because a store of a vector might change anything that is behind a pointer.
  const std::int64_t in_column = p.in_column, out_column = p.out_column, pitch = job.pitch;
  const std::int64_t at = task.n * p.out_batch + y * p.out_row + x * out_column;
  const std::int64_t last_channel = task.last_channel, last_vector = p.groups - lanes;
  const float* image = static_cast<const float*>(p.in) + task.n * p.in_batch + y * p.stride[0] * p.in_row +
                       (x * Step + p.tap_columns[0].offset) * in_column;
  const float *bias = job.bias, *weight = job.weight;
  const float* residual = p.residual ? static_cast<const float*>(p.residual) + at : nullptr;
  float* out = static_cast<float*>(p.out) + at;
  const std::int64_t* row_offset = job.row_offset;
  const BlockEnd end = job.end;
  for (std::int64_t channel = task.first_channel; channel < last_channel; channel += lanes) {
    // The last vector overlaps the one before it: it stores the same numbers there again.
    const std::int64_t c = channel <= last_vector ? channel : last_vector;
    if (job.ahead) fetch<Step, Columns>(job, image + row_offset[p.num_tap_rows - 1] + c, out + c);
    Vec<float> sum[Columns][1];
#pragma GCC unroll 8
    for (int i = 0; i < Columns; ++i) sum[i][0] = load(bias + c);
    const float* w = weight + first_tap * Taps * pitch + c;
    for (std::int64_t r = first_tap; r < last_tap; ++r) {
      const float* from = image + row_offset[r] + c;
      Vec<float> tap[Taps];
#pragma GCC unroll 8
      for (int t = 0; t < Taps; ++t, w += pitch) tap[t] = load(w);
#pragma GCC unroll 32
      for (int j = 0; j < width; ++j) {
        if (!Edge || inside & (1u << j)) {
          Vec<float> v = load(from);
          hold(v);
#pragma GCC unroll 8
          for (int t = 0; t < Taps; ++t)
            if (j >= t && (j - t) % Step == 0 && (j - t) / Step < Columns) sum[(j - t) / Step][0] += v * tap[t];
        }
        from += in_column;
      }
      if (Edge) hold(inside);  // a bit is tested faster than a flag for each bit is fetched
    }
    end_block(end, sum, Columns, out + c, out_column, residual ? residual + c : nullptr);
  }
}

template <int Taps, int Step, int Columns>
void run_task(const Job& job, const Task& task) {
  constexpr std::int64_t width = (Columns - 1) * Step + Taps;
  const ConvProblem& p = job.p;
  const std::int64_t blocks = ceil_div(p.out_width, Columns), rows = task.last_row - task.first_row;
  const bool along = job.ahead > 0;
  for (std::int64_t outer = 0; outer < (along ? rows : blocks); ++outer)
    for (std::int64_t inner = 0; inner < (along ? blocks : rows); ++inner) {
      const std::int64_t y = task.first_row + (along ? outer : inner), block = along ? inner : outer;
      const std::int64_t x = block + 1 < blocks ? block * Columns : p.out_width - Columns;
      std::int64_t first = 0, last = p.num_tap_rows;
      while (first < last && y * p.stride[0] + p.tap_rows[first].offset < 0) ++first;
      while (last > first && y * p.stride[0] + p.tap_rows[last - 1].offset >= p.in_height) --last;
      const std::int64_t left = x * Step + p.tap_columns[0].offset, right = p.in_width - left;
      if (left >= 0 && right >= width) {
        run_block<Taps, Step, Columns, false>(job, task, y, x, first, last, 0);
      } else {
        std::uint32_t inside = 0;
        for (std::int64_t j = left < 0 ? -left : 0; j < width && j < right; ++j) inside |= std::uint32_t{1} << j;
        run_block<Taps, Step, Columns, true>(job, task, y, x, first, last, inside);
      }
    }
}

using RunTask = void (*)(const Job&, const Task&);

template <int Taps, int Step>
RunTask pick_columns(std::int64_t columns) {
  switch (columns) {
    case 4:
      return run_task<Taps, Step, 4>;
    case 5:
      return run_task<Taps, Step, 5>;
    case 6:
      return run_task<Taps, Step, 6>;
    case 7:
      return run_task<Taps, Step, 7>;
    case 8:
      return run_task<Taps, Step, 8>;
    default:
      return nullptr;
  }
}

// Null if there is no block for this kernel. One and two taps are the residues of a strided layer's input gradient.
RunTask pick(const ConvProblem& p, std::int64_t columns) {
  for (std::int64_t t = 1; t < p.num_tap_columns; ++t)
    if (p.tap_columns[t].offset != p.tap_columns[0].offset + t) return nullptr;
  for (std::int64_t r = 1; r < p.num_tap_rows; ++r)
    if (p.tap_rows[r].offset < p.tap_rows[r - 1].offset) return nullptr;
  if (p.stride[1] > 2) return nullptr;
  switch (p.num_tap_columns * 8 + p.stride[1]) {
    case 1 * 8 + 1:
      return pick_columns<1, 1>(columns);
    case 2 * 8 + 1:
      return pick_columns<2, 1>(columns);
    case 3 * 8 + 1:
      return pick_columns<3, 1>(columns);
    case 3 * 8 + 2:
      return pick_columns<3, 2>(columns);
    case 5 * 8 + 1:
      return pick_columns<5, 1>(columns);
    case 5 * 8 + 2:
      return pick_columns<5, 2>(columns);
    case 7 * 8 + 1:
      return pick_columns<7, 1>(columns);
    default:
      return nullptr;
  }
}

// Weights of channels [first, first + lanes) as [tap][pitch]: the filters, each a run of `size` numbers, go through
// square transposes. tap_of[i] is the tap whose weight is number i of a filter, or -1.
void pack_weights(const ConvProblem& p, const std::int64_t* tap_of, std::int64_t first, std::int64_t pitch, float* to) {
  constexpr int lanes = kLanes<float>;
  const float* weight = static_cast<const float*>(p.weight);
  const std::int64_t size = p.weight_group, end = p.groups * size;
  for (std::int64_t begin = 0; begin < size; begin += lanes) {
    Vec<float> square[lanes];
    for (int i = 0; i < lanes; ++i) {
      const std::int64_t at = (first + i) * size + begin;
      const std::int64_t left = end - at < 0 ? 0 : end - at;
      square[i] = left >= lanes ? load(weight + at) : load_partial(weight + at, static_cast<int>(left));
    }
    transpose_square<float>(square);
    for (int i = 0; i < lanes && begin + i < size; ++i)
      if (tap_of[begin + i] >= 0) store(to + tap_of[begin + i] * pitch + first, square[i]);
  }
}

}  // namespace

// Called by run_depthwise. False if there is no block for the problem.
bool run_depthwise_blocks(const ConvProblem& p) {
  constexpr std::int64_t lanes = kLanes<float>;
  if (p.dtype != DType::f32 || !p.channels_last || p.groups < lanes || p.out_width < kLeastColumns) return false;
  const std::int64_t columns = ceil_div(p.out_width, ceil_div(p.out_width, kMostColumns));
  const RunTask run = pick(p, columns);
  if (!run) return false;

  const std::int64_t threads = p.num_threads < 1 ? 1 : p.num_threads;
  const std::int64_t width = (columns - 1) * p.stride[1] + p.num_tap_columns;
  const bool from_memory = exceeds_caches(p);
  std::int64_t channels = (from_memory ? kBandBytes / p.in_width : kBlockBytes / width) / (4 * p.num_tap_rows);
  channels = channels / lanes * lanes;
  if (channels < 2 * lanes) channels = 2 * lanes;
  const std::int64_t vectors = ceil_div(p.groups, lanes), chunks = ceil_div(p.groups, channels);
  std::int64_t rows = kBandBytes / (4 * p.stride[0] * p.in_width * (p.groups < channels ? p.groups : channels)) + 1;
  if (rows > p.out_height || from_memory) rows = p.out_height;
  while (threads > 1 && rows >= 8 && p.batch * chunks * ceil_div(p.out_height, rows) < 4 * threads)
    rows = (rows + 1) / 2;
  const std::int64_t bands = ceil_div(p.out_height, rows), tasks = p.batch * bands * chunks;

  const std::int64_t pitch = vectors * lanes;
  Buffer<float> weight(threads * p.taps() * pitch), bias(pitch);
  Buffer<std::int64_t> tap_of(p.weight_group), row_offset(p.num_tap_rows);
  for (std::int64_t i = 0; i < p.weight_group; ++i) tap_of[i] = -1;
  for (std::int64_t tap = 0; tap < p.taps(); ++tap) tap_of[p.tap_weight(tap)] = tap;
  for (std::int64_t c = 0; c < pitch; ++c)
    bias[c] = p.bias && c < p.groups ? static_cast<const float*>(p.bias)[c] : 0.0f;
  for (std::int64_t r = 0; r < p.num_tap_rows; ++r) row_offset[r] = p.tap_rows[r].offset * p.in_row;
  BlockEnd end(p.activation);
  end.past_caches = from_memory && writes_aligned_vectors(p, p.groups);
  const std::int64_t ahead = from_memory ? (kAheadBytes / (4 * p.stride[1] * p.in_column) / columns + 1) * columns : 0;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    // Each thread packs for itself, and takes consecutive tasks: weights that the other one has just written, and
    // lines of the output beside those that it is writing, would be fetched from its cache.
    float* mine = weight.data() + thread_index() * p.taps() * pitch;
    for (std::int64_t vector = 0; vector < vectors; ++vector)
      pack_weights(p, tap_of.data(), vector * lanes, pitch, mine);
    const Job job{p, mine, bias.data(), pitch, row_offset.data(), ahead, end};
#pragma omp for schedule(static)
    for (std::int64_t i = 0; i < tasks; ++i) {
      const std::int64_t chunk = i % chunks, band = i / chunks % bands;
      run(job, {i / chunks / bands, p.out_height * band / bands, p.out_height * (band + 1) / bands,
                vectors * chunk / chunks * lanes, vectors * (chunk + 1) / chunks * lanes});
    }
    if (end.past_caches) settle_streams();
  }
  return true;
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
