// Bindings of batch norm. A view is (outer, channels, inner), as channel_view.hpp has it.
#include "batch_norm.hpp"

#include <array>

#include "bindings.hpp"

namespace cvperf {
namespace {

using View = std::array<std::int64_t, 3>;

}  // namespace

void bind_batch_norm(py::module_& m) {
  m.def(
      "batch_norm",
      [](DType dtype, Pointer x, Pointer residual, Pointer weight, Pointer bias, const View& view, double epsilon,
         Activation activation, Pointer out, Pointer mean, Pointer variance, int num_threads) {
        batch_norm({as<void>(x),
                    as<void>(residual),
                    as<float>(weight),
                    as<float>(bias),
                    as<void>(out),
                    as<double>(mean),
                    as<double>(variance),
                    dtype,
                    {view[0], view[1], view[2]},
                    epsilon,
                    activation,
                    num_threads});
      },
      py::arg("dtype"), py::arg("x_ptr"), py::arg("residual_ptr"), py::arg("weight_ptr"), py::arg("bias_ptr"),
      py::arg("view"), py::arg("epsilon"), py::arg("activation"), py::arg("out_ptr"), py::arg("mean_ptr"),
      py::arg("variance_ptr"), py::arg("num_threads"), py::call_guard<py::gil_scoped_release>(),
      "residual_ptr, weight_ptr and bias_ptr may be 0; the latter two are float32, mean and variance float64.");

  m.def(
      "batch_norm_backward",
      [](DType dtype, Pointer grad, Pointer x, Pointer residual, Pointer weight, Pointer bias, Pointer mean,
         Pointer variance, const View& view, double epsilon, Activation activation, Pointer x_grad,
         Pointer residual_grad, Pointer weight_grad, Pointer bias_grad, int num_threads) {
        batch_norm_backward({as<void>(grad),
                             as<void>(x),
                             as<void>(residual),
                             as<float>(weight),
                             as<float>(bias),
                             as<double>(mean),
                             as<double>(variance),
                             as<void>(x_grad),
                             as<void>(residual_grad),
                             as<float>(weight_grad),
                             as<float>(bias_grad),
                             dtype,
                             {view[0], view[1], view[2]},
                             epsilon,
                             activation,
                             num_threads});
      },
      py::arg("dtype"), py::arg("grad_ptr"), py::arg("x_ptr"), py::arg("residual_ptr"), py::arg("weight_ptr"),
      py::arg("bias_ptr"), py::arg("mean_ptr"), py::arg("variance_ptr"), py::arg("view"), py::arg("epsilon"),
      py::arg("activation"), py::arg("x_grad_ptr"), py::arg("residual_grad_ptr"), py::arg("weight_grad_ptr"),
      py::arg("bias_grad_ptr"), py::arg("num_threads"), py::call_guard<py::gil_scoped_release>(),
      "residual_ptr, weight_ptr, bias_ptr and residual_grad_ptr may be 0.");
}

}  // namespace cvperf
