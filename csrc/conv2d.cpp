#include "conv2d_shape.hpp"
#include "replays.hpp"

namespace cvperf {
namespace {

class Conv2dCall final : public Call {
 public:
  explicit Conv2dCall(const Conv2dArgs& args) : args_(args) {}
  std::size_t reads() const override { return 5; }
  void run(void* const* read, void* output, int num_threads) const override {
    Conv2dArgs args = args_;
    args.input = read[0];
    args.weight = read[1];
    args.packed = read[2];
    args.bias = read[3];
    args.residual = read[4];
    args.output = output;
    args.shape.num_threads = num_threads;
    conv2d(args);
  }

 private:
  Conv2dArgs args_;
};

// A transposed convolution is the input gradient of the convolution that has its weight.
class Conv2dInputGradCall final : public Call {
 public:
  explicit Conv2dInputGradCall(const Conv2dInputGradArgs& args) : args_(args) {}
  std::size_t reads() const override { return 2; }
  void run(void* const* read, void* output, int num_threads) const override {
    Conv2dInputGradArgs args = args_;
    args.grad_output = read[0];
    args.weight = read[1];
    args.grad_input = output;
    args.shape.num_threads = num_threads;
    conv2d_input_grad(args);
  }

 private:
  Conv2dInputGradArgs args_;
};

}  // namespace

void bind_conv2d(py::module_& m) {
  py::enum_<Activation>(m, "Activation")
      .value("none", Activation::none)
      .value("relu", Activation::relu)
      .value("relu6", Activation::relu6)
      .value("silu", Activation::silu)
      .value("hardswish", Activation::hardswish)
      .value("sigmoid", Activation::sigmoid)
      .value("leaky_relu", Activation::leaky_relu);

  py::enum_<Algorithm>(m, "Algorithm")
      .value("automatic", Algorithm::automatic)
      .value("precise", Algorithm::precise)
      .value("direct", Algorithm::direct)
      .value("winograd2", Algorithm::winograd2)
      .value("winograd4", Algorithm::winograd4);

  py::classh<Conv2dCall, Call>(m, "Conv2dCall", "Reads image, weight, packed weight, bias and residual.")
      .def(py::init([](const Sizes& sizes, const Window& window, std::int64_t groups, bool channels_last,
                       bool weight_channels_last, DType dtype, Activation activation, Algorithm algorithm) {
             Conv2dArgs args{};
             args.shape = shape_of(sizes, window, groups, channels_last, weight_channels_last, dtype, 1);
             args.activation = activation;
             args.algorithm = algorithm;
             return std::make_shared<Conv2dCall>(args);
           }),
           py::arg("sizes"), py::arg("window"), py::arg("groups"), py::arg("channels_last"),
           py::arg("weight_channels_last"), py::arg("dtype"), py::arg("activation"), py::arg("algorithm"));
  py::classh<Conv2dInputGradCall, Call>(m, "Conv2dInputGradCall", "Reads grad_output and weight.")
      .def(py::init([](const Sizes& sizes, const Window& window, std::int64_t groups, bool channels_last,
                       bool weight_channels_last, DType dtype) {
             Conv2dInputGradArgs args{};
             args.shape = shape_of(sizes, window, groups, channels_last, weight_channels_last, dtype, 1);
             args.algorithm = Algorithm::automatic;
             return std::make_shared<Conv2dInputGradCall>(args);
           }),
           py::arg("sizes"), py::arg("window"), py::arg("groups"), py::arg("channels_last"),
           py::arg("weight_channels_last"), py::arg("dtype"));
  m.def(
      "conv2d_packed_bytes",
      [](const Sizes& sizes, const Window& window, std::int64_t groups, bool weight_channels_last, DType dtype,
         Algorithm algorithm) {
        return conv2d_packed_bytes(
            {shape_of(sizes, window, groups, true, weight_channels_last, dtype, 1), algorithm, nullptr, nullptr});
      },
      py::arg("sizes"), py::arg("window"), py::arg("groups"), py::arg("weight_channels_last"), py::arg("dtype"),
      py::arg("algorithm"), "Size of conv2d_pack's output; 0 if such a layer reads its weight as it is.");
  m.def(
      "conv2d_pack",
      [](Pointer weight, Pointer packed, const Sizes& sizes, const Window& window, std::int64_t groups,
         bool weight_channels_last, DType dtype, Algorithm algorithm, int num_threads) {
        conv2d_pack({shape_of(sizes, window, groups, true, weight_channels_last, dtype, num_threads), algorithm,
                     as<void>(weight), as<void>(packed)});
      },
      py::arg("weight"), py::arg("packed"), py::arg("sizes"), py::arg("window"), py::arg("groups"),
      py::arg("weight_channels_last"), py::arg("dtype"), py::arg("algorithm"), py::arg("num_threads"),
      py::call_guard<py::gil_scoped_release>(), "For channels-last images and the instruction set in use.");
  m.def(
      "conv2d_algorithm",
      [](const Sizes& sizes, const Window& window, std::int64_t groups, bool channels_last, DType dtype,
         Algorithm wanted) {
        return conv2d_algorithm(
            {shape_of(sizes, window, groups, channels_last, false, dtype, 1), wanted, nullptr, nullptr});
      },
      py::arg("sizes"), py::arg("window"), py::arg("groups"), py::arg("channels_last"), py::arg("dtype"),
      py::arg("wanted"), "The algorithm that runs; ValueError if the one wanted cannot.");
  m.def(
      "conv2d_input_grad",
      [](Pointer grad_output, Pointer weight, Pointer grad_input, const Sizes& sizes, const Window& window,
         std::int64_t groups, bool channels_last, bool weight_channels_last, DType dtype, int num_threads) {
        conv2d_input_grad({shape_of(sizes, window, groups, channels_last, weight_channels_last, dtype, num_threads),
                           Algorithm::automatic, as<void>(grad_output), as<void>(weight), as<void>(grad_input)});
      },
      py::arg("grad_output"), py::arg("weight"), py::arg("grad_input"), py::arg("sizes"), py::arg("window"),
      py::arg("groups"), py::arg("channels_last"), py::arg("weight_channels_last"), py::arg("dtype"),
      py::arg("num_threads"), py::call_guard<py::gil_scoped_release>());
  m.def(
      "conv2d_weight_grad",
      [](Pointer grad_output, Pointer input, Pointer grad_weight, const Sizes& sizes, const Window& window,
         std::int64_t groups, bool channels_last, bool weight_channels_last, DType dtype, int num_threads) {
        conv2d_weight_grad({shape_of(sizes, window, groups, channels_last, weight_channels_last, dtype, num_threads),
                            as<void>(grad_output), as<void>(input), as<void>(grad_weight)});
      },
      py::arg("grad_output"), py::arg("input"), py::arg("grad_weight"), py::arg("sizes"), py::arg("window"),
      py::arg("groups"), py::arg("channels_last"), py::arg("weight_channels_last"), py::arg("dtype"),
      py::arg("num_threads"), py::call_guard<py::gil_scoped_release>());
}

}  // namespace cvperf
