// One register tile of the INT8 product, in the form of the instruction set.
#pragma once
#include "int8_dot.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

// Where complete sums become bytes from the registers: round(sum * scale + bias + r * residual_scale) + zero, clamped
// to low .. high, all as uint8; int8 is that with its highest bit flipped as it is written.
struct Quantise {
  const float *scale, *bias;  // of the tile's columns
  std::int32_t zero;
  std::uint8_t low, high;
  std::uint8_t flip;             // 0x80 for int8
  const std::uint8_t* residual;  // as `out` if that is uint8, or null
  float residual_scale;
  std::uint8_t* out;  // null: the sums are stored
  std::int64_t stride;
};

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
  Quantise quantise;  // only where kQuantises
};

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf

#if defined(CVPERF_BYTE_DOT)
#include "int8_tile_vnni.hpp"
#else
#include "int8_tile_madd.hpp"
#endif
