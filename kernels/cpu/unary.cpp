// Functions of one element over a dense tensor, read and written once.
//
// Idea: one loop for each function, so that its constants stay in registers; the functions are in activation.hpp and
// functions.hpp.
//
// Roofline: the bytes read and written over the bandwidth of where they lie; what has an exponential (some 25
// operations a vector) is bound by those in the caches.
#include "unary.hpp"

#include "element_pieces.hpp"
#include "functions.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

template <class T, class Of>
void map(const UnaryArgs& args, const Of& of) {
  const T* const input = static_cast<const T*>(args.input);
  T* const output = static_cast<T*>(args.output);
  const bool past_caches = 2 * args.count * size_of(args.dtype) >= kPastCachesBytes && args.input != args.output;
  for_each_piece(args.count, past_caches, args.num_threads, [&](std::int64_t first, std::int64_t count) {
    const T* const from = input + first;
    write_run(output + first, count, past_caches,
              [&](std::int64_t i, std::int64_t left)
                  __attribute__((always_inline)) { return of(load_left(from + i, left)); });
  });
}

#define CVPERF_OF(expression) \
  return map<T>(args, [=](Vec<float> x) __attribute__((always_inline)) { return Vec<float>(expression); })

template <class T>
void unary_all(const UnaryArgs& args) {
  const Vec<float> zero{}, first = broadcast(args.parameters[0]), second = broadcast(args.parameters[1]);
  switch (args.kind) {
    case Unary::relu:
      CVPERF_OF(activate<float>(Activation::relu, x));
    case Unary::relu6:
      CVPERF_OF(activate<float>(Activation::relu6, x));
    case Unary::silu:
      CVPERF_OF(activate<float>(Activation::silu, x));
    case Unary::hardswish:
      CVPERF_OF(activate<float>(Activation::hardswish, x));
    case Unary::hardsigmoid:
      CVPERF_OF(activate<float>(Activation::relu6, x + 3.0f) / 6.0f);
    case Unary::sigmoid:
      CVPERF_OF(activate<float>(Activation::sigmoid, x));
    case Unary::leaky_relu:
      CVPERF_OF(zero > x ? x * first : x);
    case Unary::tanh:
      CVPERF_OF(tanh(x));
    case Unary::gelu:
      CVPERF_OF(gelu(x));
    case Unary::gelu_tanh:
      CVPERF_OF(gelu_by_tanh(x));
    case Unary::elu:
      CVPERF_OF((zero > x ? exp_minus_one(x) * first : x) * second);
    case Unary::exp:
      CVPERF_OF(exp(x));
    case Unary::sqrt:
      CVPERF_OF(square_root(x));
    case Unary::rsqrt:
      CVPERF_OF(1.0f / square_root(x));
    case Unary::reciprocal:
      CVPERF_OF(1.0f / x);
    case Unary::neg:
      CVPERF_OF(-x);
    case Unary::abs:
      CVPERF_OF(absolute(x));
    case Unary::clamp:
      CVPERF_OF(clamped(x, first, second));
    case Unary::softplus:
      CVPERF_OF(x * first > second ? x : softplus(x * first) / first);
    case Unary::mish:
      CVPERF_OF(mish(x));
  }
}

#undef CVPERF_OF

}  // namespace

void unary(const UnaryArgs& args) {
  with_float(args.dtype, [&](auto type) { unary_all<decltype(type)>(args); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
