#include "int8_gemm.hpp"

#include "replays.hpp"

namespace cvperf {
namespace {

class Int8GemmCall final : public Call {
 public:
  explicit Int8GemmCall(const Int8GemmArgs& args) : args_(args) {}
  std::size_t reads() const override { return 6; }
  void run(void* const* read, void* output, int num_threads) const override {
    Int8GemmArgs args = args_;
    args.a = read[0];
    args.packed = static_cast<const std::uint8_t*>(read[1]);
    args.finish.scale_a = static_cast<const float*>(read[2]);
    args.finish.scale_b = static_cast<const float*>(read[3]);
    args.finish.zero_a = static_cast<const std::int32_t*>(read[4]);
    args.finish.bias = read[5];
    args.finish.out = output;
    args.num_threads = num_threads;
    int8_gemm(args);
  }

 private:
  Int8GemmArgs args_;
};

}  // namespace

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

  py::classh<Int8GemmCall, Call>(m, "Int8GemmCall",
                                 "Reads a, packed b, scale_a, scale_b, zero_a and bias; what is absent is 1 or 0.")
      .def(py::init([](DType a_dtype, std::int64_t m, std::int64_t k, std::int64_t n, std::int64_t a_stride,
                       bool scale_a_per_row, bool scale_b_per_column, bool zero_a_per_row, Activation activation,
                       DType out_dtype) {
             Int8GemmArgs args{};
             args.a_dtype = a_dtype;
             args.m = m;
             args.k = k;
             args.n = n;
             args.a_stride = a_stride;
             args.finish.scale_a_per_row = scale_a_per_row;
             args.finish.scale_b_per_column = scale_b_per_column;
             args.finish.zero_a_per_row = zero_a_per_row;
             args.finish.activation = activation;
             args.finish.out_inverse = 1.0f;
             args.finish.out_dtype = out_dtype;
             return std::make_shared<Int8GemmCall>(args);
           }),
           py::arg("a_dtype"), py::arg("m"), py::arg("k"), py::arg("n"), py::arg("a_stride"),
           py::arg("scale_a_per_row"), py::arg("scale_b_per_column"), py::arg("zero_a_per_row"), py::arg("activation"),
           py::arg("out_dtype"));
}

}  // namespace cvperf
