#include "interpolate.hpp"

#include "replays.hpp"

namespace cvperf {
namespace {

using Sizes = std::array<std::int64_t, 6>;  // N, C, H, W, OH, OW

class InterpolateCall final : public Call {
 public:
  explicit InterpolateCall(const InterpolateArgs& args) : args_(args) {}
  std::size_t reads() const override { return 1; }
  void run(void* const* read, void* output, int num_threads) const override {
    InterpolateArgs args = args_;
    args.input = read[0];
    args.output = output;
    args.num_threads = num_threads;
    interpolate(args);
  }

 private:
  InterpolateArgs args_;
};

}  // namespace

void bind_interpolate(py::module_& m) {
  py::enum_<Interpolation>(m, "Interpolation")
      .value("nearest", Interpolation::nearest)
      .value("bilinear", Interpolation::bilinear);

  py::classh<InterpolateCall, Call>(m, "InterpolateCall", "Reads an image, NHWC.")
      .def(py::init([](const Sizes& sizes, Interpolation mode, bool align_corners, double scale_h, double scale_w,
                       DType dtype) {
             InterpolateArgs args{};
             args.images = sizes[0];
             args.channels = sizes[1];
             args.in[0] = sizes[2];
             args.in[1] = sizes[3];
             args.out[0] = sizes[4];
             args.out[1] = sizes[5];
             args.mode = mode;
             args.align_corners = align_corners;
             args.scale[0] = scale_h;
             args.scale[1] = scale_w;
             args.dtype = dtype;
             return std::make_shared<InterpolateCall>(args);
           }),
           py::arg("sizes"), py::arg("mode"), py::arg("align_corners"), py::arg("scale_h"), py::arg("scale_w"),
           py::arg("dtype"), "A scale of 0 is that of the sizes.");
}

}  // namespace cvperf
