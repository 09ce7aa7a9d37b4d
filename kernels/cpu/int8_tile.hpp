// One register tile of the INT8 product, in the form of the instruction set.
#pragma once
#include "int8_dot.hpp"
#include "int8_quantise.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

// out[rows][panels * 16] = init[rows][panels * 16] + a[rows][quads * 4] * b[panels][quads][16][4].
struct Tile {
  const AElement* a;
  std::int64_t a_stride;
  const std::int8_t* b;
  std::int64_t panel_stride, quads;
  const std::int32_t* init;  // what the sums start from; a stride of 0 starts every row from the same
  std::int64_t init_stride;
  std::int32_t* out;
  std::int64_t out_stride;
  const std::int32_t* target;  // lines to bring in while the sums are made, because they are written next; or null
  std::int64_t target_stride;
  Quantise quantise;  // where tiles can (int8_quantise.hpp)
};

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf

#if defined(CVPERF_BYTE_DOT)
#include "int8_tile_bytes.hpp"
#else
#include "int8_tile_madd.hpp"
#endif
