// activation(a + b) and the like, with either operand repeated along any dimension: each element read and written once.
//
// Idea: all is runs of elements that lie in memory one after the other, of which the second operand has as many or one
// for all. The operands change places where only the other has them. A short row that repeats, such as one number for
// each of three channels, is written out as often as fills a run; elements that lie apart are gathered.
//
// Roofline: the bytes of both and of the output over the bandwidth of where they lie; the arithmetic hides behind it.
// Outputs that no cache holds are stored past the caches.
#include "binary.hpp"

#include "activation.hpp"
#include "channel_runs.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kShortRow = 128;  // from here on a row is worth its own run

CVPERF_INLINE Vec<float> combine(Arithmetic kind, Vec<float> a, Vec<float> b) {
  switch (kind) {
    case Arithmetic::add:
      return a + b;
    case Arithmetic::subtract:
      return a - b;
    case Arithmetic::multiply:
      return a * b;
    case Arithmetic::divide:
      return a / b;
    case Arithmetic::maximum:
      return a == a ? max(a, b) : a;  // max is b where either is NaN
    case Arithmetic::minimum:
      return a == a ? min(a, b) : a;
    case Arithmetic::reverse_subtract:
      return b - a;
    default:
      return b / a;
  }
}

Arithmetic reversed(Arithmetic kind) {
  switch (kind) {
    case Arithmetic::subtract:
      return Arithmetic::reverse_subtract;
    case Arithmetic::divide:
      return Arithmetic::reverse_divide;
    case Arithmetic::reverse_subtract:
      return Arithmetic::subtract;
    case Arithmetic::reverse_divide:
      return Arithmetic::divide;
    default:
      return kind;
  }
}

// The second operand of a run.
template <class T>
struct Elements {
  const T* from;
  CVPERF_INLINE Vec<float> at(std::int64_t i, std::int64_t left) const { return load_left(from + i, left); }
};
struct Number {
  Vec<float> value;
  CVPERF_INLINE Vec<float> at(std::int64_t, std::int64_t) const { return value; }
};

struct Finish {
  Arithmetic kind;
  Activation activation;
  bool past_caches;
};

template <class T, class Second>
void combine_run(const Finish& finish, const T* a, const Second& b, std::int64_t count, T* output) {
  const Arithmetic kind = finish.kind;
  const auto run = [&](auto activated) {
    write_run(output, count, finish.past_caches, [=](std::int64_t i, std::int64_t left) __attribute__((always_inline)) {
      return activated(combine(kind, load_left(a + i, left), b.at(i, left)));
    });
  };
  // The most frequent have loops of their own: choosing for each vector shows in layers that a near cache holds.
  const Activation activation = finish.activation;
  if (activation == Activation::none) return run([](Vec<float> v) __attribute__((always_inline)) { return v; });
  if (activation == Activation::relu)
    return run([](Vec<float> v) __attribute__((always_inline)) { return activate<float>(Activation::relu, v); });
  run([=](Vec<float> v) __attribute__((always_inline)) { return activate<float>(activation, v); });
}

template <class T>
struct Operand {
  const T* from;
  std::int64_t steps[kBinaryDims];

  const T* row(std::int64_t outer, std::int64_t size_of_next) const {
    return from + outer / size_of_next * steps[0] + outer % size_of_next * steps[1];
  }
};

// from[i * step] for i < count, one after the other.
template <class T>
const T* gathered(const T* from, std::int64_t step, std::int64_t count, T* to) {
  if (step == 1) return from;
  for (std::int64_t i = 0; i < count; ++i) to[i] = from[i * step];
  return to;
}

template <class T>
class Combination {
 public:
  explicit Combination(const BinaryArgs& args) : args_(args), output_(static_cast<T*>(args.output)) {
    a_ = operand(args.a, args.a_strides);
    b_ = operand(args.b, args.b_strides);
    finish_ = {args.kind, args.activation, false};
    const std::int64_t elements = args.shape[0] * args.shape[1] * rows() * columns();
    const bool apart = args.output != args.a && args.output != args.b;
    finish_.past_caches = apart && 2 * elements * size_of(args.dtype) >= kPastCachesBytes;
    threads_ = elements < kAloneElements ? 1 : args.num_threads;
    if (!args.constant && second_is_first()) {
      const Operand<T> kept = a_;
      a_ = b_;
      b_ = kept;
      finish_.kind = reversed(args.kind);
    }
  }

  void run() const {
    const std::int64_t width = columns() < kPlaneElements ? columns() : kPlaneElements, height = kPlaneElements / width;
    const std::int64_t across = (columns() + width - 1) / width, down = (rows() + height - 1) / height;
    const std::int64_t tasks = args_.shape[0] * args_.shape[1] * down * across;
#pragma omp parallel num_threads(threads_) if (threads_ > 1)
    {
#pragma omp for schedule(static) nowait
      for (std::int64_t task = 0; task < tasks; ++task) {
        const std::int64_t outer = task / (down * across), row = task / across % down * height;
        const std::int64_t column = task % across * width;
        const std::int64_t rows_left = rows() - row, columns_left = columns() - column;
        block(outer, row, rows_left < height ? rows_left : height, column, columns_left < width ? columns_left : width);
      }
      if (finish_.past_caches) settle_streams();
    }
  }

 private:
  std::int64_t rows() const { return args_.shape[2]; }
  std::int64_t columns() const { return args_.shape[3]; }
  static Operand<T> operand(const void* from, const std::int64_t (&steps)[kBinaryDims]) {
    return {static_cast<const T*>(from), {steps[0], steps[1], steps[2], steps[3]}};
  }
  // Whether b is the better one to be read as it lies.
  bool second_is_first() const {
    if (b_.steps[3] != 1) return false;
    return a_.steps[3] != 1 || (a_.steps[2] == 0 && b_.steps[2] != 0);
  }

  void block(std::int64_t outer, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) const {
    const T* const a = a_.row(outer, args_.shape[1]) + row * a_.steps[2] + column * a_.steps[3];
    T* const output = output_ + (outer * this->rows() + row) * this->columns() + column;
    if (args_.constant) {
      const Number number{broadcast(*args_.constant)};
      for (std::int64_t r = 0; r < rows; ++r) piece(a + r * a_.steps[2], number, columns, output + r * columns);
      return;
    }
    const T* const b = b_.row(outer, args_.shape[1]) + row * b_.steps[2] + column * b_.steps[3];
    if (rows > 1 && columns < kShortRow && a_.steps[3] == 1 && a_.steps[2] == columns && b_.steps[2] == 0)
      return repeated(a, b, rows, columns, output);
    for (std::int64_t r = 0; r < rows; ++r) {
      const T *const a_row = a + r * a_.steps[2], *const b_row = b + r * b_.steps[2];
      if (b_.steps[3] == 0)
        piece(a_row, Number{broadcast(to_compute(*b_row))}, columns, output + r * columns);
      else
        pair(a_row, b_row, columns, output + r * columns);
    }
  }

  // Every row with the same short row of b.
  void repeated(const T* a, const T* b, std::int64_t rows, std::int64_t columns, T* output) const {
    T table[kRunElements + kShortRow];
    const std::int64_t fitting = (kRunElements + kShortRow) / columns, times = rows < fitting ? rows : fitting;
    for (std::int64_t i = 0; i < times * columns; ++i) table[i] = i < columns ? b[i * b_.steps[3]] : table[i - columns];
    const std::int64_t count = rows * columns, period = times * columns;
    for (std::int64_t i = 0; i < count; i += period) {
      const std::int64_t left = count - i;
      combine_run(finish_, a + i, Elements<T>{table}, left < period ? left : period, output + i);
    }
  }

  void piece(const T* a, const Number& number, std::int64_t count, T* output) const {
    if (a_.steps[3] == 1) return combine_run(finish_, a, number, count, output);
    T near[kRunElements];
    for (std::int64_t i = 0; i < count; i += kRunElements) {
      const std::int64_t left = count - i, length = left < kRunElements ? left : kRunElements;
      combine_run(finish_, gathered(a + i * a_.steps[3], a_.steps[3], length, near), number, length, output + i);
    }
  }
  void pair(const T* a, const T* b, std::int64_t count, T* output) const {
    if (a_.steps[3] == 1 && b_.steps[3] == 1) return combine_run(finish_, a, Elements<T>{b}, count, output);
    T near[kRunElements], other[kRunElements];
    for (std::int64_t i = 0; i < count; i += kRunElements) {
      const std::int64_t left = count - i, length = left < kRunElements ? left : kRunElements;
      const Elements<T> second{gathered(b + i * b_.steps[3], b_.steps[3], length, other)};
      combine_run(finish_, gathered(a + i * a_.steps[3], a_.steps[3], length, near), second, length, output + i);
    }
  }

  const BinaryArgs& args_;
  T* output_;
  Operand<T> a_, b_;
  Finish finish_;
  int threads_;
};

}  // namespace

void binary(const BinaryArgs& args) {
  for (const std::int64_t size : args.shape)
    if (size == 0) return;
  with_float(args.dtype, [&](auto type) { Combination<decltype(type)>(args).run(); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
