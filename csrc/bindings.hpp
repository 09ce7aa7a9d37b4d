// What every binding file shares. Pointers cross as integers: the module sees no tensor type and links no
// libtorch, so one binary serves every torch release. cvperf/ops has checked dtype, shape and
// layout before a pointer gets here.
#pragma once
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>

#include "dtype.hpp"
#include "isa.hpp"

namespace py = pybind11;

namespace cvperf {

using Pointer = std::uintptr_t;

template <class T>
T* as(Pointer address) {
  return reinterpret_cast<T*>(address);
}

void bind_nms(py::module_& m);
void bind_roi_align(py::module_& m);
void bind_conv2d(py::module_& m);
void bind_int8_gemm(py::module_& m);
void bind_conv2d_int8(py::module_& m);
void bind_conv2d_binary(py::module_& m);
void bind_paste_masks(py::module_& m);
void bind_pool2d(py::module_& m);
void bind_interpolate(py::module_& m);
void bind_elementwise(py::module_& m);
void bind_arithmetic(py::module_& m);
void bind_copies(py::module_& m);
void bind_peaks(py::module_& m);
void bind_memory(py::module_& m);
void bind_kernel_launch(py::module_& m);
void bind_torch_calls(py::module_& m);
void bind_replays(py::module_& m);
void bind_plan(py::module_& m);

}  // namespace cvperf
