#include "paste_masks.hpp"

#include "bindings.hpp"

namespace cvperf {

void bind_paste_masks(py::module_& m) {
  m.def(
      "paste_masks",
      [](Pointer masks, DType dtype, Pointer boxes, DType box_dtype, std::int64_t count, std::int64_t side,
         std::int64_t padding, std::int64_t height, std::int64_t width, std::optional<double> threshold, Pointer out,
         int num_threads) {
        paste_masks({as<void>(masks), dtype, as<void>(boxes), box_dtype, count, side, padding, height, width,
                     threshold.has_value(), threshold.value_or(0.0), as<void>(out), num_threads});
      },
      py::arg("masks_ptr"), py::arg("dtype"), py::arg("boxes_ptr"), py::arg("box_dtype"), py::arg("count"),
      py::arg("side"), py::arg("padding"), py::arg("height"), py::arg("width"), py::arg("threshold"),
      py::arg("out_ptr"), py::arg("num_threads"), py::call_guard<py::gil_scoped_release>(),
      "Writes the masks in the dtype of the masks; with a threshold as bytes, 1 where they are above it.");
}

}  // namespace cvperf
