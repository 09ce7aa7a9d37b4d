#include "conv2d_int8.hpp"

#include "conv2d_shape.hpp"
#include "replays.hpp"

namespace cvperf {
namespace {

class Conv2dInt8Call final : public Call {
 public:
  Conv2dInt8Call(const Conv2dInt8Args& args, float scale_input) : args_(args), scale_input_(scale_input) {}
  std::size_t reads() const override { return 5; }
  void run(void* const* read, void* output, int num_threads) const override {
    Conv2dInt8Args args = args_;
    args.shape.num_threads = num_threads;
    args.input = read[0];
    args.packed = static_cast<const std::uint8_t*>(read[1]);
    args.finish.scale_a = &scale_input_;
    args.finish.zero_a = &args_.zero_point;
    args.finish.scale_b = static_cast<const float*>(read[2]);
    args.finish.bias = read[3];
    args.finish.residual = read[4];
    args.finish.out = output;
    conv2d_int8(args);
  }

 private:
  Conv2dInt8Args args_;
  float scale_input_;
};

}  // namespace

void bind_conv2d_int8(py::module_& m) {
  py::classh<Conv2dInt8Call, Call>(m, "Conv2dInt8Call", "Reads image, packed weight, scale_weight, bias and residual.")
      .def(py::init([](const Sizes& sizes, const Window& window, std::int64_t groups, DType dtype, float scale_input,
                       std::int32_t zero_point, bool scale_per_channel, Activation activation, float residual_scale,
                       std::int32_t residual_zero, float out_inverse, std::int32_t out_zero, DType out_dtype) {
             Conv2dInt8Args args{};
             args.shape = shape_of(sizes, window, groups, true, false, dtype, 1);
             args.zero_point = zero_point;
             args.finish.scale_b_per_column = scale_per_channel;
             args.finish.residual_scale = residual_scale;
             args.finish.residual_zero = residual_zero;
             args.finish.activation = activation;
             args.finish.out_inverse = out_inverse;
             args.finish.out_zero = out_zero;
             args.finish.out_dtype = out_dtype;
             return std::make_shared<Conv2dInt8Call>(args, scale_input);
           }),
           py::arg("sizes"), py::arg("window"), py::arg("groups"), py::arg("dtype"), py::arg("scale_input"),
           py::arg("zero_point"), py::arg("scale_per_channel"), py::arg("activation"), py::arg("residual_scale"),
           py::arg("residual_zero"), py::arg("out_inverse"), py::arg("out_zero"), py::arg("out_dtype"),
           "sizes and window as conv2d_shape.hpp has them.");
}

}  // namespace cvperf
