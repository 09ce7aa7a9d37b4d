#include "conv2d.hpp"

#include <array>

#include "bindings.hpp"

namespace cvperf {
namespace {

// sizes: N, C, H, W, O, OH, OW. window: kernel, stride, padding, dilation, each as height, width.
Conv2dShape shape_of(const std::array<std::int64_t, 7>& sizes, const std::array<std::int64_t, 8>& window,
                     std::int64_t groups, bool channels_last, bool weight_channels_last, DType dtype, int num_threads) {
  return {sizes[0],
          sizes[1],
          sizes[2],
          sizes[3],
          sizes[4],
          sizes[5],
          sizes[6],
          {window[0], window[1]},
          {window[2], window[3]},
          {window[4], window[5]},
          {window[6], window[7]},
          groups,
          channels_last,
          weight_channels_last,
          dtype,
          num_threads};
}

using Sizes = std::array<std::int64_t, 7>;
using Window = std::array<std::int64_t, 8>;

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

  m.def(
      "conv2d",
      [](Pointer input, Pointer weight, Pointer bias, Pointer residual, Pointer output, const Sizes& sizes,
         const Window& window, std::int64_t groups, bool channels_last, bool weight_channels_last, DType dtype,
         Activation activation, int num_threads) {
        conv2d({shape_of(sizes, window, groups, channels_last, weight_channels_last, dtype, num_threads),
                as<void>(input), as<void>(weight), as<void>(bias), as<void>(residual), as<void>(output), activation});
      },
      py::arg("input"), py::arg("weight"), py::arg("bias"), py::arg("residual"), py::arg("output"), py::arg("sizes"),
      py::arg("window"), py::arg("groups"), py::arg("channels_last"), py::arg("weight_channels_last"), py::arg("dtype"),
      py::arg("activation"), py::arg("num_threads"), py::call_guard<py::gil_scoped_release>());
  m.def(
      "conv2d_input_grad",
      [](Pointer grad_output, Pointer weight, Pointer grad_input, const Sizes& sizes, const Window& window,
         std::int64_t groups, bool channels_last, bool weight_channels_last, DType dtype, int num_threads) {
        conv2d_input_grad({shape_of(sizes, window, groups, channels_last, weight_channels_last, dtype, num_threads),
                           as<void>(grad_output), as<void>(weight), as<void>(grad_input)});
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
