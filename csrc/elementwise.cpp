// Bindings of the element-wise passes. A view is (outer, channels, inner), as channel_view.hpp has it.
#include <array>

#include "bias_activation.hpp"
#include "bindings.hpp"
#include "normalize_image.hpp"
#include "quantize.hpp"
#include "replays.hpp"

namespace cvperf {
namespace {

using View = std::array<std::int64_t, 3>;

ChannelView view_of(const View& view) { return {view[0], view[1], view[2]}; }

class QuantizeCall final : public Call {
 public:
  QuantizeCall(DType dtype, std::int64_t count, float scale, std::int32_t zero_point, DType out_dtype)
      : dtype_(dtype), out_dtype_(out_dtype), count_(count), scale_(scale), zero_point_(zero_point) {}
  std::size_t reads() const override { return 1; }
  void run(void* const* read, void* output, int num_threads) const override {
    quantize({read[0], dtype_, &scale_, false, &zero_point_, false, output, out_dtype_, {1, 1, count_}, num_threads});
  }

 private:
  DType dtype_, out_dtype_;
  std::int64_t count_;
  float scale_;
  std::int32_t zero_point_;
};

class DequantizeCall final : public Call {
 public:
  DequantizeCall(DType dtype, std::int64_t count, float scale, std::int32_t zero_point, DType out_dtype)
      : dtype_(dtype),
        out_dtype_(out_dtype),
        count_(count),
        scale_(scale),
        zero_point_(static_cast<float>(zero_point)) {}
  std::size_t reads() const override { return 1; }
  void run(void* const* read, void* output, int num_threads) const override {
    dequantize({read[0], dtype_, &zero_point_, &scale_, output, out_dtype_, {1, 1, count_}, num_threads});
  }

 private:
  DType dtype_, out_dtype_;
  std::int64_t count_;
  float scale_, zero_point_;
};

template <class QuantizingCall>
void bind_quantizing(py::module_& m, const char* name) {
  py::classh<QuantizingCall, Call>(m, name, "One scale and zero point, kept in the call. Reads the tensor.")
      .def(py::init<DType, std::int64_t, float, std::int32_t, DType>(), py::arg("dtype"), py::arg("count"),
           py::arg("scale"), py::arg("zero_point"), py::arg("out_dtype"));
}

}  // namespace

void bind_elementwise(py::module_& m) {
  bind_quantizing<QuantizeCall>(m, "QuantizeCall");
  bind_quantizing<DequantizeCall>(m, "DequantizeCall");
  m.def(
      "bias_activation",
      [](DType dtype, Pointer x, Pointer bias, Pointer residual, const View& view, Activation activation, Pointer out,
         int num_threads) {
        bias_activation({as<void>(x), as<void>(bias), as<void>(residual), as<void>(out), dtype, view_of(view),
                         activation, num_threads});
      },
      py::arg("dtype"), py::arg("x_ptr"), py::arg("bias_ptr"), py::arg("residual_ptr"), py::arg("view"),
      py::arg("activation"), py::arg("out_ptr"), py::arg("num_threads"), py::call_guard<py::gil_scoped_release>(),
      "bias_ptr and residual_ptr may be 0.");

  m.def(
      "quantize",
      [](DType dtype, Pointer x, Pointer scale, bool scale_per_channel, Pointer zero_point, bool zero_point_per_channel,
         const View& view, DType out_dtype, Pointer out, int num_threads) {
        quantize({as<void>(x), dtype, as<float>(scale), scale_per_channel, as<std::int32_t>(zero_point),
                  zero_point_per_channel, as<void>(out), out_dtype, view_of(view), num_threads});
      },
      py::arg("dtype"), py::arg("x_ptr"), py::arg("scale_ptr"), py::arg("scale_per_channel"), py::arg("zero_point_ptr"),
      py::arg("zero_point_per_channel"), py::arg("view"), py::arg("out_dtype"), py::arg("out_ptr"),
      py::arg("num_threads"), py::call_guard<py::gil_scoped_release>());

  m.def(
      "dequantize",
      [](DType dtype, Pointer x, Pointer offset, Pointer factor, const View& view, DType out_dtype, Pointer out,
         int num_threads) {
        dequantize({as<void>(x), dtype, as<float>(offset), as<float>(factor), as<void>(out), out_dtype, view_of(view),
                    num_threads});
      },
      py::arg("dtype"), py::arg("x_ptr"), py::arg("offset_ptr"), py::arg("factor_ptr"), py::arg("view"),
      py::arg("out_dtype"), py::arg("out_ptr"), py::arg("num_threads"), py::call_guard<py::gil_scoped_release>(),
      "(x - offset[c]) * factor[c], both float32.");

  m.def(
      "normalize_image",
      [](Pointer x, bool to_planes, const View& sizes, Pointer offset, Pointer factor, DType out_dtype, Pointer out,
         int num_threads) {
        normalize_image({as<std::uint8_t>(x), to_planes, sizes[0], sizes[1], sizes[2], as<float>(offset),
                         as<float>(factor), as<void>(out), out_dtype, num_threads});
      },
      py::arg("x_ptr"), py::arg("to_planes"), py::arg("sizes"), py::arg("offset_ptr"), py::arg("factor_ptr"),
      py::arg("out_dtype"), py::arg("out_ptr"), py::arg("num_threads"), py::call_guard<py::gil_scoped_release>(),
      "uint8 pixels to planes or back; sizes are (images, channels, pixels).");
}

}  // namespace cvperf
