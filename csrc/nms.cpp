#include "nms.hpp"

#include "bindings.hpp"

namespace cvperf {

void bind_nms(py::module_& m) {
  m.def(
      "nms",
      [](Pointer boxes, Pointer scores, Pointer classes, DType dtype, std::int64_t n, double iou_threshold,
         Pointer keep, int num_threads) {
        return nms({as<void>(boxes), as<void>(scores), as<std::int64_t>(classes), dtype, n, iou_threshold,
                    as<std::int64_t>(keep), num_threads});
      },
      py::arg("boxes_ptr"), py::arg("scores_ptr"), py::arg("classes_ptr"), py::arg("dtype"), py::arg("n"),
      py::arg("iou_threshold"), py::arg("keep_ptr"), py::arg("num_threads"), py::call_guard<py::gil_scoped_release>(),
      "Writes the kept indices and returns how many. classes_ptr may be 0 (one class).");
}

}  // namespace cvperf
