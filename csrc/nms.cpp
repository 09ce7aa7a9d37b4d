// Bindings of the three suppressions.
#include "nms.hpp"

#include "bindings.hpp"
#include "soft_nms.hpp"

namespace cvperf {

void bind_nms(py::module_& m) {
  m.def(
      "nms",
      [](Pointer boxes, Pointer scores, Pointer classes, DType dtype, std::int64_t n, double iou_threshold,
         Pointer keep, bool prune, int num_threads) {
        return nms({as<void>(boxes), as<void>(scores), as<std::int64_t>(classes), dtype, n, iou_threshold,
                    as<std::int64_t>(keep), prune, num_threads});
      },
      py::arg("boxes_ptr"), py::arg("scores_ptr"), py::arg("classes_ptr"), py::arg("dtype"), py::arg("n"),
      py::arg("iou_threshold"), py::arg("keep_ptr"), py::arg("prune"), py::arg("num_threads"),
      py::call_guard<py::gil_scoped_release>(),
      "Writes the kept indices and returns how many. classes_ptr may be 0 (one class).");

  m.def(
      "nms_padded",
      [](Pointer boxes, Pointer scores, DType dtype, std::int64_t batch, std::int64_t n, double iou_threshold,
         std::int64_t max_output, Pointer indices, Pointer counts, int num_threads) {
        nms_padded({as<void>(boxes), as<void>(scores), dtype, batch, n, iou_threshold, max_output,
                    as<std::int64_t>(indices), as<std::int64_t>(counts), num_threads});
      },
      py::arg("boxes_ptr"), py::arg("scores_ptr"), py::arg("dtype"), py::arg("batch"), py::arg("n"),
      py::arg("iou_threshold"), py::arg("max_output"), py::arg("indices_ptr"), py::arg("counts_ptr"),
      py::arg("num_threads"), py::call_guard<py::gil_scoped_release>());

  m.def(
      "soft_nms",
      [](Pointer boxes, Pointer scores, DType dtype, std::int64_t n, bool gaussian, double iou_threshold, double sigma,
         double score_threshold, std::int64_t limit, Pointer indices, Pointer selected) {
        return soft_nms({as<void>(boxes), as<void>(scores), dtype, n, gaussian, iou_threshold, sigma, score_threshold,
                         limit, as<std::int64_t>(indices), as<void>(selected)});
      },
      py::arg("boxes_ptr"), py::arg("scores_ptr"), py::arg("dtype"), py::arg("n"), py::arg("gaussian"),
      py::arg("iou_threshold"), py::arg("sigma"), py::arg("score_threshold"), py::arg("limit"), py::arg("indices_ptr"),
      py::arg("selected_ptr"), py::call_guard<py::gil_scoped_release>(),
      "Writes up to `limit` selected indices and scores and returns how many.");
}

}  // namespace cvperf
