#include "peaks.hpp"

#include <string>
#include <tuple>

#include "bindings.hpp"
#include "threads.hpp"

namespace cvperf {

void bind_peaks(py::module_& m) {
  m.def(
      "peak_arithmetic",
      [](DType dtype, std::int64_t rounds, int num_threads) {
        const ArithmeticDone done = peak_arithmetic({dtype, rounds, num_threads});
        return std::tuple<double, double, std::string>{done.operations, done.checksum, done.instruction};
      },
      py::arg("dtype"), py::arg("rounds"), py::arg("num_threads"), py::call_guard<py::gil_scoped_release>(),
      "(operations, checksum, instruction). float16 and bfloat16 are widened where there is no instruction for them.");

  m.def(
      "peak_copy",
      [](Pointer from, Pointer to, std::int64_t bytes, std::int64_t rounds, bool streaming, int num_threads) {
        peak_copy({as<void>(from), as<void>(to), bytes, rounds, streaming, num_threads});
      },
      py::arg("from_ptr"), py::arg("to_ptr"), py::arg("bytes"), py::arg("rounds"), py::arg("streaming"),
      py::arg("num_threads"), py::call_guard<py::gil_scoped_release>(),
      "Pointers aligned to 64 bytes, bytes a multiple of 512.");

  m.def("place_threads", &place_threads, py::arg("processors"), py::call_guard<py::gil_scoped_release>(),
        "Thread i of a team of len(processors) runs on processors[i] only. Linux; elsewhere nothing happens.");
}

}  // namespace cvperf
