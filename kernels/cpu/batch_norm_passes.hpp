// Two passes over a tensor with numbers by channel in between: one that sums, one that writes.
//
// A tensor is read as rows of whole vectors, column by column: of channels-last a row is so many pixels that they fill
// vectors (three of 8 channels, 65 of 64), of planes it is kRowElements of one plane. What does not fill a row at the
// end is copied to one, padded, and taken as a row. Rows are summed in float32 for kBlockRows at most, then in float64.
//
// Channels-last is cut into segments by its shape alone, whose sums are added in their order, so that no bit depends on
// the number of threads; a plane's channel is summed by one thread, which then finds it in its cache. The second pass
// takes the segments last to first: what the first has read last is in the caches still.
#pragma once
#include "buffer.hpp"
#include "channel_runs.hpp"

namespace cvperf {
namespace CVPERF_ISA {

constexpr std::int64_t kRowElements = 64;           // of a row, at least
constexpr std::int64_t kBlockRows = 64;             // that are summed in float32
constexpr std::int64_t kSegmentElements = 1 << 15;  // at least
constexpr std::int64_t kMostSegments = 128;

// Numbers of a channel, as a pass reads them.
struct Coefficients {
  float mean = 0, scale = 0, shift = 0, slope = 0, offset = 0;
};

// The same for each column of a row.
class Columns {
 public:
  Columns(float* memory, std::int64_t width) : memory_(memory), width_(width) {}
  static std::int64_t floats(std::int64_t width) { return 5 * width; }
  void set(std::int64_t column, const Coefficients& c) {
    float* const at = memory_ + column;
    at[0] = c.mean, at[width_] = c.scale, at[2 * width_] = c.shift;
    at[3 * width_] = c.slope, at[4 * width_] = c.offset;
  }
  std::int64_t width() const { return width_; }
  const float* mean() const { return memory_; }
  const float* scale() const { return memory_ + width_; }
  const float* shift() const { return memory_ + 2 * width_; }
  const float* slope() const { return memory_ + 3 * width_; }
  const float* offset() const { return memory_ + 4 * width_; }

 private:
  float* memory_;
  std::int64_t width_;
};

// The tensors of a pass, which lie in memory alike; null where there is none.
template <class T>
struct Operands {
  const T *x = nullptr, *residual = nullptr, *grad = nullptr;
  T *out = nullptr, *residual_grad = nullptr;

  Operands from(std::int64_t i) const {
    return {x + i, residual ? residual + i : nullptr, grad ? grad + i : nullptr, out ? out + i : nullptr,
            residual_grad ? residual_grad + i : nullptr};
  }
};

// Of one thread: sums by column, and rows for what fills none.
template <class T>
struct Workspace {
  float *first, *sum, *square;   // [width], of a block
  double *total, *total_square;  // [width], of a part of the tensor
  T* rows;                       // [5, width]

  static std::size_t bytes(std::int64_t width) {
    return static_cast<std::size_t>(width) * (3 * sizeof(float) + 2 * sizeof(double) + 5 * sizeof(T)) + 6 * 64;
  }
  Workspace(char* memory, std::int64_t width) {
    Cutter cut(memory);
    first = cut.take<float>(width), sum = cut.take<float>(width), square = cut.take<float>(width);
    total = cut.take<double>(width), total_square = cut.take<double>(width);
    rows = cut.take<T>(5 * width);
  }
  void clear(std::int64_t width) {
    for (std::int64_t i = 0; i < width; ++i) total[i] = total_square[i] = 0;
  }
  void clear_block(std::int64_t width) {
    for (std::int64_t i = 0; i < width; ++i) sum[i] = square[i] = 0;
  }
};

// pass(operands, rows) over `count` elements that lie one after the other.
template <class T, class Pass>
void over_run(const Operands<T>& data, std::int64_t count, const Columns& columns, Workspace<T>& work,
              const Pass& pass) {
  const std::int64_t width = columns.width(), rows = count / width, left = count - rows * width;
  for (std::int64_t row = 0; row < rows; row += kBlockRows)
    pass(data.from(row * width), rows - row < kBlockRows ? rows - row : kBlockRows);
  if (left == 0) return;
  const Operands<T> end = data.from(rows * width);
  const auto row = [&](int i) { return work.rows + i * width; };
  const auto padded = [&](const T* from, T* to, auto filler) -> const T* {  // the filler adds nothing to a sum
    if (!from) return nullptr;
    for (std::int64_t i = 0; i < width; ++i) to[i] = i < left ? from[i] : from_compute<T>(filler(i));
    return to;
  };
  const auto zero = [](std::int64_t) { return 0.0f; };
  padded(end.residual_grad, row(4), zero);  // the second pass reads it
  pass(Operands<T>{padded(end.x, row(0), [&](std::int64_t i) { return columns.mean()[i]; }),
                   padded(end.residual, row(1), zero), padded(end.grad, row(2), zero), end.out ? row(3) : nullptr,
                   end.residual_grad ? row(4) : nullptr},
       1);
  for (std::int64_t i = 0; i < left; ++i) {
    if (end.out) end.out[i] = row(3)[i];
    if (end.residual_grad) end.residual_grad[i] = row(4)[i];
  }
}

// work(part, thread) for every part, each thread's one after the other, the last first if `backwards`.
template <class Work>
void share(std::int64_t parts, int threads, bool backwards, const Work& work) {
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (threads > 1)
  for (int thread = 0; thread < threads; ++thread) {
    const std::int64_t first = parts * thread / threads, end = parts * (thread + 1) / threads;
    for (std::int64_t i = first; i < end; ++i) work(backwards ? first + end - 1 - i : i, thread);
    settle_streams();
  }
}

inline int threads_for(const ChannelView& view, std::int64_t parts, int num_threads) {
  if (view.elements() < kAloneElements) return 1;
  return parts < num_threads ? static_cast<int>(parts) : num_threads;
}

// A task has
//   before(c)                       the coefficients of the first pass
//   add(operands, rows, columns, work)  adds the sums of a block to work.total and work.total_square
//   after(c, total, total_square)   the coefficients of the second pass, called once a channel
//   write(operands, rows, columns)  the second pass.
template <class T, class Task>
void channels_last_passes(const ChannelView& view, const Operands<T>& data, int num_threads, const Task& task) {
  const std::int64_t elements = view.elements(), channels = view.channels;
  std::int64_t width = channels;
  while (width % kLanes<float> || width < kRowElements) width += channels;
  const std::int64_t rows = elements / width, fitting = elements / kSegmentElements;
  const std::int64_t wanted = fitting < 1 ? 1 : (fitting < kMostSegments ? fitting : kMostSegments);
  const std::int64_t blocks = (rows + wanted * kBlockRows - 1) / (wanted * kBlockRows);
  const std::int64_t each = (blocks ? blocks : 1) * kBlockRows;  // rows of a segment
  const std::int64_t segments = rows ? (rows + each - 1) / each : 1;
  const int threads = threads_for(view, segments, num_threads);

  Buffer<float> numbers(static_cast<std::size_t>(Columns::floats(width)));
  Buffer<double> sums(static_cast<std::size_t>(2 * segments * channels));
  const std::size_t bytes = (Workspace<T>::bytes(width) + 63) / 64 * 64;
  Buffer<char> memory(bytes * static_cast<std::size_t>(threads));
  Columns columns(numbers.data(), width);
  const auto set = [&](std::int64_t channel, const Coefficients& c) {
    for (std::int64_t column = channel; column < width; column += channels) columns.set(column, c);
  };
  const auto run = [&](std::int64_t segment, Workspace<T>& work, const auto& pass) {
    const std::int64_t first = segment * each * width;
    const std::int64_t count = segment + 1 < segments ? each * width : elements - first;
    over_run(data.from(first), count, columns, work, pass);
  };

  for (std::int64_t c = 0; c < channels; ++c) set(c, task.before(c));
  share(segments, threads, false, [&](std::int64_t segment, int thread) {
    Workspace<T> work(memory.data() + bytes * static_cast<std::size_t>(thread), width);
    work.clear(width);
    run(segment, work, [&](const Operands<T>& at, std::int64_t count) { task.add(at, count, columns, work); });
    double* const sum = sums.data() + 2 * segment * channels;
    for (std::int64_t c = 0; c < channels; ++c) {
      sum[c] = sum[channels + c] = 0;
      for (std::int64_t column = c; column < width; column += channels) {
        sum[c] += work.total[column];
        sum[channels + c] += work.total_square[column];
      }
    }
  });
  double* const total = sums.data();
  for (std::int64_t segment = 1; segment < segments; ++segment)
    for (std::int64_t i = 0; i < 2 * channels; ++i) total[i] += total[2 * segment * channels + i];
  for (std::int64_t c = 0; c < channels; ++c) set(c, task.after(c, total[c], total[channels + c]));
  share(segments, threads, true, [&](std::int64_t segment, int thread) {
    Workspace<T> work(memory.data() + bytes * static_cast<std::size_t>(thread), width);
    run(segment, work, [&](const Operands<T>& at, std::int64_t count) { task.write(at, count, columns); });
  });
}

template <class T, class Task>
void planar_passes(const ChannelView& view, const Operands<T>& data, int num_threads, const Task& task) {
  constexpr std::int64_t width = kRowElements;
  const int threads = threads_for(view, view.channels, num_threads);
  const std::size_t floats = static_cast<std::size_t>(Columns::floats(width));
  Buffer<float> numbers(floats * static_cast<std::size_t>(threads));
  const std::size_t bytes = (Workspace<T>::bytes(width) + 63) / 64 * 64;
  Buffer<char> memory(bytes * static_cast<std::size_t>(threads));
  share(view.channels, threads, false, [&](std::int64_t channel, int thread) {
    Columns columns(numbers.data() + floats * static_cast<std::size_t>(thread), width);
    Workspace<T> work(memory.data() + bytes * static_cast<std::size_t>(thread), width);
    const auto set = [&](const Coefficients& c) {
      for (std::int64_t column = 0; column < width; ++column) columns.set(column, c);
    };
    const auto plane = [&](std::int64_t image) { return data.from((image * view.channels + channel) * view.inner); };
    work.clear(width);
    set(task.before(channel));
    for (std::int64_t image = 0; image < view.outer; ++image)
      over_run(plane(image), view.inner, columns, work,
               [&](const Operands<T>& at, std::int64_t count) { task.add(at, count, columns, work); });
    double total = 0, total_square = 0;
    for (std::int64_t i = 0; i < width; ++i) total += work.total[i], total_square += work.total_square[i];
    set(task.after(channel, total, total_square));
    for (std::int64_t image = view.outer; image-- > 0;)
      over_run(plane(image), view.inner, columns, work,
               [&](const Operands<T>& at, std::int64_t count) { task.write(at, count, columns); });
  });
}

template <class T, class Task>
void in_two_passes(const ChannelView& view, const Operands<T>& data, int num_threads, const Task& task) {
  if (view.channels == 1) return channels_last_passes({view.elements(), 1, 1}, data, num_threads, task);
  if (view.inner == 1) return channels_last_passes(view, data, num_threads, task);
  planar_passes(view, data, num_threads, task);
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
