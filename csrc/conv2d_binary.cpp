#include "conv2d_binary.hpp"

#include "conv2d_shape.hpp"
#include "replays.hpp"

namespace cvperf {
namespace {

class PackBitsCall final : public Call {
 public:
  PackBitsCall(DType dtype, std::int64_t pixels, std::int64_t channels)
      : dtype_(dtype), pixels_(pixels), channels_(channels) {}
  std::size_t reads() const override { return 1; }
  void run(void* const* read, void* output, int num_threads) const override {
    pack_bits({read[0], dtype_, pixels_, channels_, static_cast<std::uint32_t*>(output), num_threads});
  }

 private:
  DType dtype_;
  std::int64_t pixels_, channels_;
};

class Conv2dBinaryCall final : public Call {
 public:
  explicit Conv2dBinaryCall(const Conv2dBinaryArgs& args) : args_(args) {}
  std::size_t reads() const override { return 4; }
  void run(void* const* read, void* output, int num_threads) const override {
    Conv2dBinaryArgs args = args_;
    args.shape.num_threads = num_threads;
    args.input = static_cast<const std::uint32_t*>(read[0]);
    args.packed = static_cast<const std::uint32_t*>(read[1]);
    args.scale = static_cast<const float*>(read[2]);
    args.bias = static_cast<const float*>(read[3]);
    args.output = output;
    conv2d_binary(args);
  }

 private:
  Conv2dBinaryArgs args_;
};

}  // namespace

void bind_conv2d_binary(py::module_& m) {
  py::classh<PackBitsCall, Call>(m, "PackBitsCall", "Reads numbers [pixels, channels].")
      .def(py::init<DType, std::int64_t, std::int64_t>(), py::arg("dtype"), py::arg("pixels"), py::arg("channels"));

  py::classh<Conv2dBinaryCall, Call>(m, "Conv2dBinaryCall", "Reads bits, packed weight, scale and bias.")
      .def(py::init([](const Sizes& sizes, const Window& window, Activation activation, DType out_dtype) {
             Conv2dBinaryArgs args{};
             args.shape = shape_of(sizes, window, 1, true, true, out_dtype, 1);
             args.activation = activation;
             return std::make_shared<Conv2dBinaryCall>(args);
           }),
           py::arg("sizes"), py::arg("window"), py::arg("activation"), py::arg("out_dtype"),
           "sizes and window as conv2d_shape.hpp has them; channels in numbers.");
}

}  // namespace cvperf
