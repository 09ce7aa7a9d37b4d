// The exact INT8 product that the matrix product and the convolution share; they differ in where a row of a comes from.
#pragma once
#include "int8_gemm.hpp"
#include "int8_rows.hpp"

namespace cvperf {
namespace CVPERF_ISA {

// Rows of a as the register tiles read them: `stride` elements apart, whole quads.
struct Rows {
  const AElement* data;
  std::int64_t stride;
};

// The elements k0 .. k0 + count of rows m0 .. m0 + rows of a group's a: copied to scratch[rows][stride] with widen(),
// which may overshoot, or where they already are if the tiles can read them there.
using LoadRows = Rows (*)(const void* source, std::int64_t group, std::int64_t m0, std::int64_t rows, std::int64_t k0,
                          std::int64_t count, AElement* scratch, std::int64_t stride);

// For every group: a[m, k] times b[k, n].
struct Int8Product {
  std::int64_t m, k, n, groups;
  LoadRows load;
  const void* source;          // what `load` gets
  bool a_signed;               // int8, which widen() may shift
  const std::uint8_t* packed;  // [groups] of packed_int8_bytes(k, n)
  Int8Finish finish;
  int num_threads;
};

void multiply(const Int8Product& product);

}  // namespace CVPERF_ISA
}  // namespace cvperf
