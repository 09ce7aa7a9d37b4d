#include "conv2d_int8.hpp"

#include <array>

#include "bindings.hpp"

namespace cvperf {

void bind_conv2d_int8(py::module_& m) {
  m.def(
      "conv2d_int8",
      [](Pointer input, DType dtype, Pointer packed, const std::array<std::int64_t, 7>& sizes,
         const std::array<std::int64_t, 8>& window, std::int64_t groups, float scale_input, std::int32_t zero_point,
         Pointer scale_weight, bool scale_per_channel, Pointer bias, Activation activation, Pointer residual,
         float residual_scale, std::int32_t residual_zero, float out_inverse, std::int32_t out_zero, Pointer output,
         DType out_dtype, int num_threads) {
        Conv2dInt8Args args{};
        Conv2dShape& shape = args.shape;
        std::int64_t* const lengths[] = {&shape.batch,        &shape.in_channels, &shape.in_height, &shape.in_width,
                                         &shape.out_channels, &shape.out_height,  &shape.out_width};
        for (int i = 0; i < 7; ++i) *lengths[i] = sizes[static_cast<std::size_t>(i)];
        for (std::size_t i = 0; i < 2; ++i) {
          shape.kernel[i] = window[i];
          shape.stride[i] = window[2 + i];
          shape.padding[i] = window[4 + i];
          shape.dilation[i] = window[6 + i];
        }
        shape.groups = groups;
        shape.channels_last = true;
        shape.dtype = dtype;
        shape.num_threads = num_threads;
        args.input = as<void>(input);
        args.zero_point = zero_point;
        args.packed = as<std::uint8_t>(packed);
        args.finish.scale_a = &scale_input;
        args.finish.scale_b = as<float>(scale_weight);
        args.finish.scale_b_per_column = scale_per_channel;
        args.finish.zero_a = &zero_point;
        args.finish.bias = as<void>(bias);
        args.finish.residual = as<void>(residual);
        args.finish.residual_scale = residual_scale;
        args.finish.residual_zero = residual_zero;
        args.finish.activation = activation;
        args.finish.out_inverse = out_inverse;
        args.finish.out_zero = out_zero;
        args.finish.out = as<void>(output);
        args.finish.out_dtype = out_dtype;
        conv2d_int8(args);
      },
      py::arg("input_ptr"), py::arg("dtype"), py::arg("packed_ptr"), py::arg("sizes"), py::arg("window"),
      py::arg("groups"), py::arg("scale_input"), py::arg("zero_point"), py::arg("scale_weight_ptr"),
      py::arg("scale_per_channel"), py::arg("bias_ptr"), py::arg("activation"), py::arg("residual_ptr"),
      py::arg("residual_scale"), py::arg("residual_zero"), py::arg("out_inverse"), py::arg("out_zero"),
      py::arg("output_ptr"), py::arg("out_dtype"), py::arg("num_threads"), py::call_guard<py::gil_scoped_release>(),
      "sizes: N, C, H, W, O, OH, OW. window: kernel, stride, padding, dilation, each (vertical, horizontal).");
}

}  // namespace cvperf
