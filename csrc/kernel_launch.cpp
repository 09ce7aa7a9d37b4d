// Launches of GPU kernels through a function of cuLaunchKernel's type, given by its address: the driver's, or a
// stand-in of the tests. No CUDA header or library is needed to build this, and one binary serves every driver.
#include <limits>
#include <string>

#include "bindings.hpp"

namespace cvperf {
namespace {

using LaunchKernel = int (*)(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                             unsigned block_y, unsigned block_z, unsigned shared_bytes, void* stream, void** parameters,
                             void** extra);

// Keys of `extra`, as cuda.h defines them.
void* const kBufferPointer = reinterpret_cast<void*>(1);
void* const kBufferSize = reinterpret_cast<void*>(2);
void* const kEnd = nullptr;

constexpr std::size_t kMostAlignment = 64;  // of CUtensorMap

void append(std::string& buffer, const void* data, std::size_t bytes) {
  std::size_t alignment = 1;
  while (alignment < bytes && alignment < kMostAlignment) alignment *= 2;
  buffer.resize((buffer.size() + alignment - 1) / alignment * alignment);
  buffer.append(static_cast<const char*>(data), bytes);
}

template <class T>
void append(std::string& buffer, T value) {
  append(buffer, &value, sizeof value);
}

void append_integer(std::string& buffer, py::handle argument, std::size_t index) {
  int overflow = 0;
  const long long value = PyLong_AsLongLongAndOverflow(argument.ptr(), &overflow);
  using Range = std::numeric_limits<std::int32_t>;
  if (overflow || value < Range::min() || value > Range::max()) {
    throw py::value_error("argument " + std::to_string(index) + " of a kernel is " +
                          py::str(argument).cast<std::string>() +
                          ", beyond 32 bits; wrap it in numpy.int64 if the kernel takes a long long");
  }
  append(buffer, static_cast<std::int32_t>(value));
}

void append_bytes(std::string& buffer, py::handle argument) {
  Py_buffer view;
  if (PyObject_GetBuffer(argument.ptr(), &view, PyBUF_SIMPLE) != 0) throw py::error_already_set();
  append(buffer, view.buf, static_cast<std::size_t>(view.len));
  PyBuffer_Release(&view);
}

// Tensors become their address, int a 32-bit integer, float a 32-bit float, None a null pointer, and an object with a
// buffer (a NumPy scalar, the bytes of a tensor map) its bytes, aligned to their number or at most 64.
std::string pack_arguments(const py::tuple& arguments) {
  static PyObject* const data_ptr = PyUnicode_InternFromString("data_ptr");
  std::string buffer;
  buffer.reserve(256);
  std::size_t index = 0;
  for (const py::handle argument : arguments) {
    PyObject* const object = argument.ptr();
    if (object == Py_None) {
      append(buffer, Pointer(0));
    } else if (PyLong_CheckExact(object)) {
      append_integer(buffer, argument, index);
    } else if (PyFloat_CheckExact(object)) {
      append(buffer, static_cast<float>(PyFloat_AS_DOUBLE(object)));
    } else if (PyObject_CheckBuffer(object)) {
      append_bytes(buffer, argument);
    } else {
      const py::object address = py::reinterpret_steal<py::object>(PyObject_CallMethodNoArgs(object, data_ptr));
      if (!address) throw py::error_already_set();
      append(buffer, static_cast<Pointer>(PyLong_AsUnsignedLongLong(address.ptr())));
    }
    ++index;
  }
  return buffer;
}

}  // namespace

void bind_kernel_launch(py::module_& m) {
  m.def(
      "pack_arguments", [](const py::tuple& arguments) { return py::bytes(pack_arguments(arguments)); },
      py::arg("arguments"), "A kernel's arguments as one buffer, each at its natural alignment.");

  m.def(
      "launch_kernel",
      [](Pointer launcher, Pointer function, std::array<unsigned, 3> grid, std::array<unsigned, 3> block,
         unsigned shared_bytes, Pointer stream, const py::tuple& arguments) {
        std::string buffer = pack_arguments(arguments);
        std::size_t size = buffer.size();
        void* extra[] = {kBufferPointer, buffer.data(), kBufferSize, &size, kEnd};
        const py::gil_scoped_release released;  // the driver may wait for room in the stream
        return reinterpret_cast<LaunchKernel>(launcher)(as<void>(function), grid[0], grid[1], grid[2], block[0],
                                                        block[1], block[2], shared_bytes, as<void>(stream), nullptr,
                                                        extra);
      },
      py::arg("launcher"), py::arg("function"), py::arg("grid"), py::arg("block"), py::arg("shared_bytes"),
      py::arg("stream"), py::arg("arguments"),
      "Calls cuLaunchKernel, or what stands in for it, at the address `launcher`; returns its CUresult.");
}

}  // namespace cvperf
