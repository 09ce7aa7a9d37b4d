// Arguments of a GPU kernel as the driver takes them: one buffer in which each lies at its natural alignment.
#pragma once
#include <string>

#include "bindings.hpp"

namespace cvperf {

// Tensors become their address, int a 32-bit integer, float a 32-bit float, None a null pointer, and an object with a
// buffer (a NumPy scalar, the bytes of a tensor map) its bytes, aligned to their number or at most 64.
std::string pack_arguments(const py::tuple& arguments);

}  // namespace cvperf
