// Bindings of RoI Align and RoI pooling.
#include "roi_align.hpp"

#include "bindings.hpp"
#include "roi_pool.hpp"

namespace cvperf {
namespace {

// RoI pooling: image counts, map and bin sizes arrive as one tuple: (images, channels, height, width, pooled_height,
// pooled_width).
using Sizes = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t>;

// A pyramid: of each level its map's address, height, width and spatial scale.
using Levels = std::vector<std::tuple<Pointer, std::int64_t, std::int64_t, double>>;
// The sizes that levels share: (images, channels, pooled_height, pooled_width).
using Shared = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t>;

// The kernels' arguments point into it.
struct Pyramid {
  explicit Pyramid(const Levels& levels) {
    for (const auto& [data, height, width, spatial_scale] : levels) {
      pointers.push_back(as<void>(data));
      maps.push_back({height, width, spatial_scale});
    }
  }
  std::vector<void*> pointers;
  std::vector<RoiMap> maps;
};

RoiGeometry geometry(DType dtype, const Pyramid& pyramid, Pointer boxes, Pointer level_of_box, std::int64_t count,
                     const Shared& sizes, std::int64_t sampling_ratio, bool aligned, int num_threads) {
  RoiGeometry roi{};
  roi.boxes = as<const void>(boxes);
  roi.boxes_f64 = dtype == DType::f64;
  roi.count = count;
  roi.maps = pyramid.maps.data();
  roi.num_maps = static_cast<std::int64_t>(pyramid.maps.size());
  roi.levels = as<const std::int32_t>(level_of_box);
  std::tie(roi.images, std::ignore, roi.pooled_height, roi.pooled_width) = sizes;
  roi.sampling_ratio = sampling_ratio;
  roi.aligned = aligned;
  roi.num_threads = num_threads;
  return roi;
}

void align(DType dtype, const Levels& inputs, Pointer boxes, Pointer level_of_box, Pointer output, std::int64_t count,
           const Shared& sizes, std::int64_t sampling_ratio, bool aligned, bool channels_last, int num_threads) {
  const Pyramid pyramid(inputs);
  roi_align({dtype, pyramid.pointers.data(), as<void>(output), std::get<1>(sizes), channels_last,
             geometry(dtype, pyramid, boxes, level_of_box, count, sizes, sampling_ratio, aligned, num_threads)});
}

void align_backward(DType dtype, Pointer grad, Pointer boxes, Pointer level_of_box, const Levels& grad_inputs,
                    std::int64_t count, const Shared& sizes, std::int64_t sampling_ratio, bool aligned,
                    bool channels_last, int num_threads) {
  const Pyramid pyramid(grad_inputs);
  roi_align_backward(
      {dtype, as<const void>(grad), pyramid.pointers.data(), std::get<1>(sizes), channels_last,
       geometry(dtype, pyramid, boxes, level_of_box, count, sizes, sampling_ratio, aligned, num_threads)});
}

void pool(DType dtype, Pointer input, Pointer boxes, Pointer output, Pointer argmax, std::int64_t count,
          const Sizes& sizes, double spatial_scale, bool channels_last, int num_threads) {
  RoiPoolArgs args{};
  args.dtype = dtype;
  args.input = as<const void>(input);
  args.boxes = as<const void>(boxes);
  args.output = as<void>(output);
  args.argmax = as<std::int32_t>(argmax);
  args.count = count;
  std::tie(args.images, args.channels, args.height, args.width, args.pooled_height, args.pooled_width) = sizes;
  args.spatial_scale = spatial_scale;
  args.channels_last = channels_last;
  args.num_threads = num_threads;
  roi_pool(args);
}

void pool_backward(DType dtype, Pointer grad, Pointer boxes, Pointer argmax, Pointer grad_input, std::int64_t count,
                   const Sizes& sizes, bool channels_last, int num_threads) {
  RoiPoolBackwardArgs args{};
  args.dtype = dtype;
  args.grad = as<const void>(grad);
  args.boxes = as<const void>(boxes);
  args.argmax = as<const std::int32_t>(argmax);
  args.grad_input = as<void>(grad_input);
  args.count = count;
  std::tie(args.images, args.channels, args.height, args.width, args.pooled_height, args.pooled_width) = sizes;
  args.channels_last = channels_last;
  args.num_threads = num_threads;
  roi_pool_backward(args);
}

}  // namespace

void bind_roi_align(py::module_& m) {
  const auto release = py::call_guard<py::gil_scoped_release>();
  m.def("roi_align", &align, py::arg("dtype"), py::arg("inputs"), py::arg("boxes"), py::arg("level_of_box"),
        py::arg("output"), py::arg("count"), py::arg("sizes"), py::arg("sampling_ratio"), py::arg("aligned"),
        py::arg("channels_last"), py::arg("num_threads"), release);
  m.def("roi_align_backward", &align_backward, py::arg("dtype"), py::arg("grad"), py::arg("boxes"),
        py::arg("level_of_box"), py::arg("grad_inputs"), py::arg("count"), py::arg("sizes"), py::arg("sampling_ratio"),
        py::arg("aligned"), py::arg("channels_last"), py::arg("num_threads"), release);
  m.def("roi_pool", &pool, py::arg("dtype"), py::arg("input"), py::arg("boxes"), py::arg("output"), py::arg("argmax"),
        py::arg("count"), py::arg("sizes"), py::arg("spatial_scale"), py::arg("channels_last"), py::arg("num_threads"),
        release);
  m.def("roi_pool_backward", &pool_backward, py::arg("dtype"), py::arg("grad"), py::arg("boxes"), py::arg("argmax"),
        py::arg("grad_input"), py::arg("count"), py::arg("sizes"), py::arg("channels_last"), py::arg("num_threads"),
        release);
}

}  // namespace cvperf
