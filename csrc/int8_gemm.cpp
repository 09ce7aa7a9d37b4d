#include "int8_gemm.hpp"

#include "bindings.hpp"

namespace cvperf {

void bind_int8_gemm(py::module_& m) {
  m.def("packed_int8_bytes", &packed_int8_bytes, py::arg("k"), py::arg("n"), "Size of pack_int8's output.");

  m.def(
      "pack_int8",
      [](Pointer b, std::int64_t k, std::int64_t n, std::int64_t stride_k, std::int64_t stride_n, Pointer out,
         int num_threads) {
        pack_int8({as<std::int8_t>(b), k, n, stride_k, stride_n, as<std::uint8_t>(out), num_threads});
      },
      py::arg("b_ptr"), py::arg("k"), py::arg("n"), py::arg("stride_k"), py::arg("stride_n"), py::arg("out_ptr"),
      py::arg("num_threads"), py::call_guard<py::gil_scoped_release>(), "Strides in elements, any of them.");

  m.def(
      "int8_gemm",
      [](Pointer a, DType a_dtype, std::int64_t m, std::int64_t k, std::int64_t n, std::int64_t a_stride,
         Pointer packed, Pointer scale_a, bool scale_a_per_row, Pointer scale_b, bool scale_b_per_column,
         Pointer zero_a, bool zero_a_per_row, Pointer bias, Activation activation, Pointer out, DType out_dtype,
         int num_threads) {
        Int8Finish finish{};
        finish.scale_a = as<float>(scale_a);
        finish.scale_a_per_row = scale_a_per_row;
        finish.scale_b = as<float>(scale_b);
        finish.scale_b_per_column = scale_b_per_column;
        finish.zero_a = as<std::int32_t>(zero_a);
        finish.zero_a_per_row = zero_a_per_row;
        finish.bias = as<void>(bias);
        finish.activation = activation;
        finish.out_inverse = 1.0f;
        finish.out = as<void>(out);
        finish.out_dtype = out_dtype;
        int8_gemm({as<void>(a), a_dtype, m, k, n, a_stride, as<std::uint8_t>(packed), finish, num_threads});
      },
      py::arg("a_ptr"), py::arg("a_dtype"), py::arg("m"), py::arg("k"), py::arg("n"), py::arg("a_stride"),
      py::arg("packed_ptr"), py::arg("scale_a_ptr"), py::arg("scale_a_per_row"), py::arg("scale_b_ptr"),
      py::arg("scale_b_per_column"), py::arg("zero_a_ptr"), py::arg("zero_a_per_row"), py::arg("bias_ptr"),
      py::arg("activation"), py::arg("out_ptr"), py::arg("out_dtype"), py::arg("num_threads"),
      py::call_guard<py::gil_scoped_release>(),
      "Pointers that are 0 stand for scales of 1, zero points and bias of 0.");
}

}  // namespace cvperf
