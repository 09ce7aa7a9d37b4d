// Batch norm of a batch's own statistics, with residual and activation, and its gradients.
//
// Idea: the passes that torch makes for the norm, the residual and the activation are two forward and two backward
// (batch_norm_passes.hpp). Forward: x is summed, then read again and the answer written. Backward: grad and x are
// summed, then read again and the gradient of x written. What the activation was given is computed again from x and the
// residual, in the same operations: nothing but those is kept, and no mask is read. With a residual the first pass of
// the backward writes the gradient ahead of the activation, which is the residual's, and the second reads that.
//
// Accuracy: a block of 64 rows is summed in float32 as distances from its first row, so its mean square loses at most
// the last 6 bits whatever the data, and less than one where they are spread as usual; blocks are put together in
// float64 (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979,
// with one shift for all). The mean is carried in two floats: with x around 1e4 its rounding would show in the answer.
//
// Roofline: bytes of the tensors named, each as often as it is read or written, over the bandwidth of where they lie.
#include "batch_norm.hpp"

#include "activation_gradient.hpp"
#include "batch_norm_passes.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kSumRows = 8;    // whose sums stay in registers
constexpr std::int64_t kWriteRows = 4;  // for which coefficients stay in registers

template <Activation kActivation>
struct Fixed {
  constexpr operator Activation() const { return kActivation; }
};

// f(T{}) with T the element type; float16 has too little range to train in.
template <class F>
void with_trained(DType dtype, const F& f) {
  dtype == DType::bf16 ? f(bfloat16{}) : f(float{});
}

// f(activation), known to the compiler if it is one of those that cost less than the switch between them.
template <class F>
void with_activation(Activation activation, const F& f) {
  switch (activation) {
    case Activation::none:
      return f(Fixed<Activation::none>{});
    case Activation::relu:
      return f(Fixed<Activation::relu>{});
    case Activation::relu6:
      return f(Fixed<Activation::relu6>{});
    default:
      return f(activation);
  }
}

// The compiler is to unroll the rows of a group.
template <std::int64_t kRows, class Step>
CVPERF_INLINE void each_row(const Step& step) {
#pragma GCC unroll 8
  for (std::int64_t row = 0; row < kRows; ++row) step(row);
}

// group(first row, how many as a constant) over all rows.
template <std::int64_t kRows>
struct Rows {
  static constexpr std::int64_t count = kRows;
};
template <std::int64_t kRows, class Group>
CVPERF_INLINE void by_groups(std::int64_t rows, const Group& group) {
  std::int64_t row = 0;
  for (; row + kRows <= rows; row += kRows) group(row, Rows<kRows>{});
  for (; row < rows; ++row) group(row, Rows<1>{});
}

// Lanes of float64 from float32.
CVPERF_INLINE Vec<double> widened(const float* from) {
  typedef float Half __attribute__((vector_size(CVPERF_VECTOR_BYTES / 2)));
  Half half;
  __builtin_memcpy(&half, from, sizeof half);
  return __builtin_convertvector(half, Vec<double>);
}

CVPERF_INLINE void add_to(double* total, Vec<double> v) { store(total, load(total) + v); }

CVPERF_INLINE void store_to(float* to, Vec<float> v, bool past_caches) {
  past_caches ? store_past_caches(to, v) : store(to, v);
}
template <class T>
CVPERF_INLINE void store_to(T* to, Vec<float> v, bool) {
  store(to, v);
}

// (x - mean) * scale + shift + residual: what the activation is given, the same bits forward and backward.
struct Column {
  Vec<float> mean, scale, shift;

  CVPERF_INLINE Column(const Columns& columns, std::int64_t c)
      : mean(load(columns.mean() + c)), scale(load(columns.scale() + c)), shift(load(columns.shift() + c)) {}

  template <class T>
  CVPERF_INLINE Vec<float> normalised(const Operands<T>& at, std::int64_t i, Vec<float> distance) const {
    Vec<float> z = distance * scale + shift;
    if (at.residual) z += load(at.residual + i);
    return z;
  }
};

// What a channel's statistics come down to.
struct Norm {
  double mean, inverse, scale;  // inverse: 1 / standard deviation
  Coefficients coefficients;

  Norm(double mean, double variance, double epsilon, const float* weight, const float* bias, std::int64_t c)
      : mean(mean), inverse(1 / __builtin_sqrt(variance + epsilon)), scale((weight ? weight[c] : 1.0) * inverse) {
    coefficients.mean = static_cast<float>(mean);
    coefficients.scale = static_cast<float>(scale);
    coefficients.shift = static_cast<float>((bias ? bias[c] : 0.0) - rest() * scale);
  }
  double rest() const { return mean - coefficients.mean; }  // that float32 has no room for
};

// Operands and columns are passed by value: the compiler would read their pointers again after each store.
template <class T, class Act>
struct Forward {
  const BatchNormArgs& args;
  Act activation;
  bool past_caches;

  Coefficients before(std::int64_t c) const {
    Coefficients pivot;
    pivot.mean = to_compute(static_cast<const T*>(args.x)[c * args.view.inner]);
    return pivot;
  }

  void add(Operands<T> at, std::int64_t rows, Columns columns, Workspace<T> work) const {
    const std::int64_t width = columns.width(), ahead = kSumRows * width;
    work.clear_block(width);
    for (std::int64_t c = 0; c < width; c += kLanes<float>) store(work.first + c, load(at.x + c));
    by_groups<kSumRows>(rows, [&](std::int64_t row, auto group) __attribute__((always_inline)) {
      for (std::int64_t c = 0; c < width; c += kLanes<float>) {
        const Vec<float> first = load(work.first + c);
        Vec<float> sum = load(work.sum + c), square = load(work.square + c);
        each_row<group.count>([&](std::int64_t i) __attribute__((always_inline)) {
          const T* const x = at.x + (row + i) * width + c;
          __builtin_prefetch(x + ahead);
          const Vec<float> distance = load(x) - first;
          sum += distance;
          square += distance * distance;
        });
        store(work.sum + c, sum);
        store(work.square + c, square);
      }
    });
    const double count = static_cast<double>(rows);
    for (std::int64_t c = 0; c < width; c += kLanes<double>) {
      const Vec<double> sum = widened(work.sum + c), square = widened(work.square + c);
      const Vec<double> moved = widened(work.first + c) - widened(columns.mean() + c);
      add_to(work.total + c, sum + moved * count);
      add_to(work.total_square + c, square + moved * (2.0 * sum + moved * count));
    }
  }

  Coefficients after(std::int64_t c, double total, double total_square) const {
    const double count = static_cast<double>(args.view.outer * args.view.inner), moved = total / count;
    const double variance = total_square / count - moved * moved;
    args.mean[c] = before(c).mean + moved;
    args.variance[c] = variance < 0 ? 0 : variance;
    return Norm(args.mean[c], args.variance[c], args.epsilon, args.weight, args.bias, c).coefficients;
  }

  void write(Operands<T> at, std::int64_t rows, Columns columns) const {
    const std::int64_t width = columns.width();
    const bool past = past_caches;
    by_groups<kWriteRows>(rows, [&](std::int64_t row, auto group) __attribute__((always_inline)) {
      for (std::int64_t c = 0; c < width; c += kLanes<float>) {
        const Column column(columns, c);
        each_row<group.count>([&](std::int64_t j) __attribute__((always_inline)) {
          const std::int64_t i = (row + j) * width + c;
          const Vec<float> z = column.normalised(at, i, load(at.x + i) - column.mean);
          store_to(at.out + i, activate<float>(activation, z), past);
        });
      }
    });
  }
};

template <class T, class Act>
struct Backward {
  const BatchNormBackwardArgs& args;
  Act activation;
  bool past_caches;

  Norm norm(std::int64_t c) const {
    return Norm(args.mean[c], args.variance[c], args.epsilon, args.weight, args.bias, c);
  }
  Coefficients before(std::int64_t c) const { return norm(c).coefficients; }

  void add(Operands<T> at, std::int64_t rows, Columns columns, Workspace<T> work) const {
    const std::int64_t width = columns.width(), ahead = kSumRows * width;
    work.clear_block(width);
    by_groups<kSumRows>(rows, [&](std::int64_t row, auto group) __attribute__((always_inline)) {
      for (std::int64_t c = 0; c < width; c += kLanes<float>) {
        const Column column(columns, c);
        Vec<float> sum = load(work.sum + c), product = load(work.square + c);
        each_row<group.count>([&](std::int64_t j) __attribute__((always_inline)) {
          const std::int64_t i = (row + j) * width + c;
          __builtin_prefetch(at.x + i + ahead);
          __builtin_prefetch(at.grad + i + ahead);
          const Vec<float> distance = load(at.x + i) - column.mean;
          const Vec<float> z = column.normalised(at, i, distance);
          const Vec<float> grad = activation_gradient(activation, z, load(at.grad + i));
          if (at.residual_grad) store(at.residual_grad + i, grad);
          sum += grad;
          product += grad * distance;
        });
        store(work.sum + c, sum);
        store(work.square + c, product);
      }
    });
    for (std::int64_t c = 0; c < width; c += kLanes<double>) {
      add_to(work.total + c, widened(work.sum + c));
      add_to(work.total_square + c, widened(work.square + c));
    }
  }

  // x_grad = scale * (grad - mean of grad - normalised x * mean of (grad * normalised x))
  Coefficients after(std::int64_t c, double total, double total_product) const {
    const Norm n = norm(c);
    const double count = static_cast<double>(args.view.outer * args.view.inner);
    const double product = (total_product - n.rest() * total) * n.inverse;
    args.bias_grad[c] = static_cast<float>(total);
    args.weight_grad[c] = static_cast<float>(product);
    const double slope = -n.scale * n.inverse * product / count;
    Coefficients coefficients = n.coefficients;
    coefficients.slope = static_cast<float>(slope);
    coefficients.offset = static_cast<float>(-n.scale * total / count - slope * n.rest());
    return coefficients;
  }

  void write(Operands<T> at, std::int64_t rows, Columns columns) const {
    const std::int64_t width = columns.width();
    const bool past = past_caches;
    by_groups<kWriteRows>(rows, [&](std::int64_t row, auto group) __attribute__((always_inline)) {
      for (std::int64_t c = 0; c < width; c += kLanes<float>) {
        const Column column(columns, c);
        const Vec<float> slope = load(columns.slope() + c), offset = load(columns.offset() + c);
        each_row<group.count>([&](std::int64_t j) __attribute__((always_inline)) {
          const std::int64_t i = (row + j) * width + c;
          const Vec<float> distance = load(at.x + i) - column.mean;
          Vec<float> grad;
          if (at.residual_grad)
            grad = load(at.residual_grad + i);
          else
            grad = activation_gradient(activation, column.normalised(at, i, distance), load(at.grad + i));
          store_to(at.out + i, grad * column.scale + (distance * slope + offset), past);
        });
      }
    });
  }
};

// Whether an output of so many tensors' pass is stored past the caches; every row of it must begin at a vector.
bool goes_past_caches(const ChannelView& view, DType dtype, int tensors, const void* out) {
  const bool aligned = view.inner == 1 || view.channels == 1 || view.inner % kLanes<float> == 0;
  return view.elements() * size_of(dtype) * tensors >= kPastCachesBytes && aligned && vector_aligned(out);
}

}  // namespace

void batch_norm(const BatchNormArgs& args) {
  const bool past_caches = goes_past_caches(args.view, args.dtype, args.residual ? 3 : 2, args.out);
  with_trained(args.dtype, [&](auto type) {
    using T = decltype(type);
    Operands<T> data;
    data.x = static_cast<const T*>(args.x);
    data.residual = static_cast<const T*>(args.residual);
    data.out = static_cast<T*>(args.out);
    with_activation(args.activation, [&](auto activation) {
      in_two_passes(args.view, data, args.num_threads, Forward<T, decltype(activation)>{args, activation, past_caches});
    });
  });
}

void batch_norm_backward(const BatchNormBackwardArgs& args) {
  const bool past_caches = goes_past_caches(args.view, args.dtype, 3, args.x_grad);
  with_trained(args.dtype, [&](auto type) {
    using T = decltype(type);
    Operands<T> data;
    data.x = static_cast<const T*>(args.x);
    data.residual = static_cast<const T*>(args.residual);
    data.grad = static_cast<const T*>(args.grad);
    data.out = static_cast<T*>(args.x_grad);
    data.residual_grad = static_cast<T*>(args.residual_grad);
    with_activation(args.activation, [&](auto activation) {
      in_two_passes(args.view, data, args.num_threads,
                    Backward<T, decltype(activation)>{args, activation, past_caches});
    });
  });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
