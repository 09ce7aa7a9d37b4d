#include "pool2d.hpp"

#include "replays.hpp"

namespace cvperf {
namespace {

using Sizes = std::array<std::int64_t, 6>;   // N, C, H, W, OH, OW
using Window = std::array<std::int64_t, 8>;  // kernel, stride, padding, dilation, each as height, width

Pool2dShape shape_of(const Sizes& sizes, const Window& window, bool adaptive) {
  return {sizes[0],
          sizes[1],
          {sizes[2], sizes[3]},
          {sizes[4], sizes[5]},
          {window[0], window[1]},
          {window[2], window[3]},
          {window[4], window[5]},
          {window[6], window[7]},
          adaptive};
}

// A kernel that reads one image.
template <class Args, void (*kernel)(const Args&)>
class PoolCall : public Call {
 public:
  explicit PoolCall(const Args& args) : args_(args) {}
  std::size_t reads() const override { return 1; }
  void run(void* const* read, void* output, int num_threads) const override {
    Args args = args_;
    args.input = read[0];
    args.output = output;
    args.num_threads = num_threads;
    kernel(args);
  }

 private:
  Args args_;
};

using AvgPoolCall = PoolCall<AvgPool2dArgs, avg_pool2d>;
class MaxPool2dCall final : public PoolCall<MaxPool2dArgs, max_pool2d> {
  using PoolCall::PoolCall;
};
class AvgPool2dCall final : public AvgPoolCall {
  using PoolCall::PoolCall;
};
class AdaptiveAvgPool2dCall final : public AvgPoolCall {
  using PoolCall::PoolCall;
};
class AvgPool2dInt8Call final : public AvgPoolCall {
  using PoolCall::PoolCall;
};
class AdaptiveAvgPool2dInt8Call final : public AvgPoolCall {
  using PoolCall::PoolCall;
};

AvgPool2dArgs average(const Pool2dShape& shape, bool count_include_pad, std::int64_t divisor_override, DType dtype) {
  AvgPool2dArgs args{};
  args.shape = shape;
  args.count_include_pad = count_include_pad;
  args.divisor_override = divisor_override;
  args.dtype = args.out_dtype = dtype;
  return args;
}

AvgPool2dArgs quantised(AvgPool2dArgs args, float scale, std::int32_t zero_point, float out_inverse,
                        std::int32_t out_zero, DType out_dtype) {
  args.scale = scale;
  args.zero = zero_point;
  args.out_inverse = out_inverse;
  args.out_zero = out_zero;
  args.out_dtype = out_dtype;
  return args;
}

}  // namespace

void bind_pool2d(py::module_& m) {
  py::classh<MaxPool2dCall, Call>(m, "MaxPool2dCall", "Reads an image; NHWC, as all of these.")
      .def(py::init([](const Sizes& sizes, const Window& window, DType dtype) {
             MaxPool2dArgs args{};
             args.shape = shape_of(sizes, window, false);
             args.dtype = dtype;
             return std::make_shared<MaxPool2dCall>(args);
           }),
           py::arg("sizes"), py::arg("window"), py::arg("dtype"));

  py::classh<AvgPool2dCall, Call>(m, "AvgPool2dCall", "Reads an image.")
      .def(py::init([](const Sizes& sizes, const Window& window, bool count_include_pad, std::int64_t divisor_override,
                       DType dtype) {
             return std::make_shared<AvgPool2dCall>(
                 average(shape_of(sizes, window, false), count_include_pad, divisor_override, dtype));
           }),
           py::arg("sizes"), py::arg("window"), py::arg("count_include_pad"), py::arg("divisor_override"),
           py::arg("dtype"), "divisor_override is 0 for none.");

  py::classh<AdaptiveAvgPool2dCall, Call>(m, "AdaptiveAvgPool2dCall", "Reads an image.")
      .def(py::init([](const Sizes& sizes, DType dtype) {
             return std::make_shared<AdaptiveAvgPool2dCall>(average(shape_of(sizes, {}, true), false, 0, dtype));
           }),
           py::arg("sizes"), py::arg("dtype"));

  py::classh<AvgPool2dInt8Call, Call>(m, "AvgPool2dInt8Call", "Reads an image of bytes.")
      .def(py::init([](const Sizes& sizes, const Window& window, bool count_include_pad, std::int64_t divisor_override,
                       DType dtype, float scale, std::int32_t zero_point, float out_inverse, std::int32_t out_zero,
                       DType out_dtype) {
             const auto args = average(shape_of(sizes, window, false), count_include_pad, divisor_override, dtype);
             return std::make_shared<AvgPool2dInt8Call>(
                 quantised(args, scale, zero_point, out_inverse, out_zero, out_dtype));
           }),
           py::arg("sizes"), py::arg("window"), py::arg("count_include_pad"), py::arg("divisor_override"),
           py::arg("dtype"), py::arg("scale"), py::arg("zero_point"), py::arg("out_inverse"), py::arg("out_zero"),
           py::arg("out_dtype"), "The last three as Conv2dInt8Call has them.");

  py::classh<AdaptiveAvgPool2dInt8Call, Call>(m, "AdaptiveAvgPool2dInt8Call", "Reads an image of bytes.")
      .def(py::init([](const Sizes& sizes, DType dtype, float scale, std::int32_t zero_point, float out_inverse,
                       std::int32_t out_zero, DType out_dtype) {
             const auto args = average(shape_of(sizes, {}, true), false, 0, dtype);
             return std::make_shared<AdaptiveAvgPool2dInt8Call>(
                 quantised(args, scale, zero_point, out_inverse, out_zero, out_dtype));
           }),
           py::arg("sizes"), py::arg("dtype"), py::arg("scale"), py::arg("zero_point"), py::arg("out_inverse"),
           py::arg("out_zero"), py::arg("out_dtype"));
}

}  // namespace cvperf
