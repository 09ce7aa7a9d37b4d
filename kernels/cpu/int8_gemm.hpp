// INT8 matrix product on raw pointers: int8 or uint8 times int8, accumulated exactly in int32.
#pragma once
#include <cstdint>

#include "activation_kind.hpp"
#include "dtype.hpp"
#include "isa.hpp"

namespace cvperf {

// The packed form of b[K, N], the same on every instruction set: panels of 16 columns, each a row of quads,
// a quad being 4 consecutive k of each of the 16 columns, [ceil(N/16)][ceil(K/4)][16][4] int8, zero padded;
// then the column sums, int32 [ceil(N/16) * 16] (they correct for zero points), and 64 bytes, whose first 4 are an
// int32: the greatest |first| + |second| of a pair, half a quad.
constexpr std::int64_t kPanelColumns = 16;
constexpr std::int64_t kQuadBytes = kPanelColumns * 4;
constexpr std::int64_t kWidestBytes = 64;

constexpr std::int64_t int8_panels(std::int64_t n) { return (n + kPanelColumns - 1) / kPanelColumns; }
constexpr std::int64_t int8_quads(std::int64_t k) { return (k + 3) / 4; }
constexpr std::int64_t packed_int8_bytes(std::int64_t k, std::int64_t n) {
  return int8_panels(n) * (int8_quads(k) * kQuadBytes + kPanelColumns * 4) + kWidestBytes;
}

// Whether vpmaddubsw, which adds two products of an unsigned byte and one of b in 16 bits, never saturates on it.
inline bool pairs_fit_int16(const std::uint8_t* packed, std::int64_t k, std::int64_t n, std::int64_t groups) {
  const std::int64_t size = packed_int8_bytes(k, n);
  for (std::int64_t group = 1; group <= groups; ++group) {
    std::int32_t widest;
    __builtin_memcpy(&widest, packed + group * size - kWidestBytes, sizeof widest);
    if (widest * 255 > 32767) return false;
  }
  return true;
}

struct PackInt8Args {
  const std::int8_t* b;  // [k, n]
  std::int64_t k, n;
  std::int64_t stride_k, stride_n;  // in elements
  std::uint8_t* out;                // [packed_int8_bytes(k, n)]
  int num_threads;
};

// From the exact sums (a - zero_a) @ b to the output. int32 outputs are the sums plus an int32 bias, and use nothing
// else here. The others are activation(sums * scale_a * scale_b + bias + residual), and int8 and uint8 outputs
// round(that * out_inverse) + out_zero, half to even, saturated. Null pointers stand for 1, 1, 0, 0 and 0.
struct Int8Finish {
  const float* scale_a;  // [m] if scale_a_per_row, else [1]
  bool scale_a_per_row;
  const float* scale_b;  // [groups * n] if scale_b_per_column, else [1]
  bool scale_b_per_column;
  const std::int32_t* zero_a;  // [m] if zero_a_per_row, else [1]
  bool zero_a_per_row;
  const void* bias;      // [groups * n]: int32 if the output is int32, else float32
  const void* residual;  // as the output; an int8 or uint8 r stands for (r - residual_zero) * residual_scale
  float residual_scale;
  std::int32_t residual_zero;
  Activation activation;
  float out_inverse;  // one over the scale of an int8 or uint8 output
  std::int32_t out_zero;
  void* out;        // [m, groups * n] contiguous
  DType out_dtype;  // i32, f32, bf16, f16, i8 or u8
};

struct Int8GemmArgs {
  const void* a;  // [m, k] of int8 or uint8, rows a_stride apart, each row contiguous
  DType a_dtype;  // i8 or u8
  std::int64_t m, k, n;
  std::int64_t a_stride;       // in elements
  const std::uint8_t* packed;  // b as pack_int8 writes it
  Int8Finish finish;
  int num_threads;
};

CVPERF_DISPATCHED(void, pack_int8, PackInt8Args)
CVPERF_DISPATCHED_BYTES(void, int8_gemm, Int8GemmArgs, pairs_fit_int16(args.packed, args.k, args.n, 1))

}  // namespace cvperf
