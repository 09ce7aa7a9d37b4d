// Calls that compute element by element, and softmax.
#include "binary.hpp"
#include "replays.hpp"
#include "softmax.hpp"
#include "unary.hpp"

#include <algorithm>

namespace cvperf {
namespace {

using Dims = std::array<std::int64_t, kBinaryDims>;

class BinaryCall final : public Call {
 public:
  explicit BinaryCall(const BinaryArgs& args) : args_(args) {}
  std::size_t reads() const override { return 2; }
  void run(void* const* read, void* output, int num_threads) const override {
    BinaryArgs args = args_;
    args.a = read[0];
    args.b = read[1];
    args.output = output;
    args.num_threads = num_threads;
    binary(args);
  }

 private:
  BinaryArgs args_;
};

class ScalarCall final : public Call {
 public:
  ScalarCall(Arithmetic kind, std::int64_t count, float constant, DType dtype, Activation activation)
      : kind_(kind), activation_(activation), dtype_(dtype), count_(count), constant_(constant) {}
  std::size_t reads() const override { return 1; }
  void run(void* const* read, void* output, int num_threads) const override {
    binary({kind_,
            activation_,
            dtype_,
            {1, 1, 1, count_},
            {0, 0, 0, 1},
            {},
            read[0],
            nullptr,
            &constant_,
            output,
            num_threads});
  }

 private:
  Arithmetic kind_;
  Activation activation_;
  DType dtype_;
  std::int64_t count_;
  float constant_;
};

class UnaryCall final : public Call {
 public:
  UnaryCall(Unary kind, std::int64_t count, DType dtype, float first, float second)
      : args_{kind, {first, second}, nullptr, nullptr, count, dtype, 1} {}
  std::size_t reads() const override { return 1; }
  void run(void* const* read, void* output, int num_threads) const override {
    UnaryArgs args = args_;
    args.input = read[0];
    args.output = output;
    args.num_threads = num_threads;
    unary(args);
  }

 private:
  UnaryArgs args_;
};

class SoftmaxCall final : public Call {
 public:
  SoftmaxCall(std::int64_t outer, std::int64_t count, std::int64_t inner, DType dtype, bool logarithm)
      : args_{nullptr, nullptr, outer, count, inner, dtype, logarithm, 1} {}
  std::size_t reads() const override { return 1; }
  void run(void* const* read, void* output, int num_threads) const override {
    SoftmaxArgs args = args_;
    args.input = read[0];
    args.output = output;
    args.num_threads = num_threads;
    softmax(args);
  }

 private:
  SoftmaxArgs args_;
};

BinaryArgs binary_args(Arithmetic kind, const Dims& shape, const Dims& a, const Dims& b, DType dtype,
                       Activation activation) {
  BinaryArgs args{};
  args.kind = kind;
  args.activation = activation;
  args.dtype = dtype;
  std::copy(shape.begin(), shape.end(), args.shape);
  std::copy(a.begin(), a.end(), args.a_strides);
  std::copy(b.begin(), b.end(), args.b_strides);
  return args;
}

}  // namespace

void bind_arithmetic(py::module_& m) {
  py::enum_<Arithmetic>(m, "Arithmetic")
      .value("add", Arithmetic::add)
      .value("subtract", Arithmetic::subtract)
      .value("multiply", Arithmetic::multiply)
      .value("divide", Arithmetic::divide)
      .value("maximum", Arithmetic::maximum)
      .value("minimum", Arithmetic::minimum)
      .value("reverse_subtract", Arithmetic::reverse_subtract)
      .value("reverse_divide", Arithmetic::reverse_divide);
  py::enum_<Unary>(m, "Unary")
      .value("relu", Unary::relu)
      .value("relu6", Unary::relu6)
      .value("silu", Unary::silu)
      .value("hardswish", Unary::hardswish)
      .value("hardsigmoid", Unary::hardsigmoid)
      .value("sigmoid", Unary::sigmoid)
      .value("leaky_relu", Unary::leaky_relu)
      .value("tanh", Unary::tanh)
      .value("gelu", Unary::gelu)
      .value("gelu_tanh", Unary::gelu_tanh)
      .value("elu", Unary::elu)
      .value("exp", Unary::exp)
      .value("sqrt", Unary::sqrt)
      .value("rsqrt", Unary::rsqrt)
      .value("reciprocal", Unary::reciprocal)
      .value("neg", Unary::neg)
      .value("abs", Unary::abs)
      .value("clamp", Unary::clamp)
      .value("softplus", Unary::softplus)
      .value("mish", Unary::mish);

  py::classh<BinaryCall, Call>(m, "BinaryCall", "Reads both operands. The output is dense in the order of `shape`.")
      .def(py::init([](Arithmetic kind, const Dims& shape, const Dims& a, const Dims& b, DType dtype,
                       Activation activation) {
             return std::make_shared<BinaryCall>(binary_args(kind, shape, a, b, dtype, activation));
           }),
           py::arg("kind"), py::arg("shape"), py::arg("a_strides"), py::arg("b_strides"), py::arg("dtype"),
           py::arg("activation"));
  py::classh<ScalarCall, Call>(m, "ScalarCall", "Reads one dense tensor; the second operand is kept in the call.")
      .def(py::init<Arithmetic, std::int64_t, float, DType, Activation>(), py::arg("kind"), py::arg("count"),
           py::arg("constant"), py::arg("dtype"), py::arg("activation"));
  py::classh<UnaryCall, Call>(m, "UnaryCall", "Reads one dense tensor. What the parameters are: unary.hpp.")
      .def(py::init<Unary, std::int64_t, DType, float, float>(), py::arg("kind"), py::arg("count"), py::arg("dtype"),
           py::arg("first") = 0.0f, py::arg("second") = 0.0f);
  py::classh<SoftmaxCall, Call>(m, "SoftmaxCall", "Reads dense [outer, count, inner]; over the middle.")
      .def(py::init<std::int64_t, std::int64_t, std::int64_t, DType, bool>(), py::arg("outer"), py::arg("count"),
           py::arg("inner"), py::arg("dtype"), py::arg("logarithm"));
}

}  // namespace cvperf
