#include "bindings.hpp"

PYBIND11_MODULE(_C, m) {
  using namespace cvperf;
  m.doc() = "cvperf's CPU kernels on raw pointers. Use cvperf.ops; nothing here checks its arguments.";

  py::enum_<DType>(m, "DType")
      .value("f16", DType::f16)
      .value("bf16", DType::bf16)
      .value("f32", DType::f32)
      .value("f64", DType::f64)
      .value("i8", DType::i8)
      .value("u8", DType::u8)
      .value("i32", DType::i32);

#ifdef __clang__
  m.attr("compiler") = "clang " __clang_version__;
#else
  m.attr("compiler") = "gcc " __VERSION__;
#endif

  active_isa();  // reads CVPERF_CPU_ISA now, so that a wrong name fails the import and not a later call
  m.def("isa", [] { return isa_name(active_isa()); }, "The instruction set in use.");
  m.def("available_isas", &available_isas, "Instruction sets this processor can run, lowest first.");
  m.def("select_isa", &select_isa, py::arg("name"), "Use another instruction set from now on.");

  bind_torch_calls(m);
  bind_replays(m);  // before what derives from Call
  bind_plan(m);
  bind_nms(m);
  bind_roi_align(m);
  bind_conv2d(m);
  bind_int8_gemm(m);
  bind_conv2d_int8(m);
  bind_conv2d_binary(m);
  bind_paste_masks(m);
  bind_pool2d(m);
  bind_interpolate(m);
  bind_elementwise(m);
  bind_arithmetic(m);
  bind_copies(m);
  bind_peaks(m);
  bind_memory(m);
  bind_kernel_launch(m);
}
