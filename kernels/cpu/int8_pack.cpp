// Packs b[K, N] for int8_gemm (layout in int8_gemm.hpp): panels of 16 columns in quads of 4 k, column sums last.
// A pass over memory: rows are interleaved 16 columns by 4 k in registers; a transposed b (the usual linear
// weight, seen as weight.t()) has its quads contiguous already, and they are copied as 32-bit words. Panels are looked
// over for their widest pair while they are in the caches.
#include "int8_gemm.hpp"
#include "int8_interleave.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

typedef std::int16_t Shorts __attribute__((vector_size(32)));
typedef std::int32_t Sums __attribute__((vector_size(64)));

CVPERF_INLINE Bytes load_bytes(const std::int8_t* p) {
  Bytes v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

CVPERF_INLINE void add_rows(const Bytes (&rows)[4], Sums& sums) {
  const Shorts sum = __builtin_convertvector(rows[0], Shorts) + __builtin_convertvector(rows[1], Shorts) +
                     __builtin_convertvector(rows[2], Shorts) + __builtin_convertvector(rows[3], Shorts);
  sums += __builtin_convertvector(sum, Sums);
}

// A panel from b[K, N] with unit column stride.
void pack_rows(const PackInt8Args& args, std::int64_t n0, std::int8_t* out, Sums& sums) {
  const std::int64_t left = args.n - n0;
  const std::size_t width = left < kPanelColumns ? static_cast<std::size_t>(left) : kPanelColumns;
  for (std::int64_t k = 0; k < args.k; k += 4, out += kQuadBytes) {
    Bytes rows[4] = {};
    for (int i = 0; i < 4 && k + i < args.k; ++i) {
      const std::int8_t* from = args.b + (k + i) * args.stride_k + n0;
      if (width == kPanelColumns)
        rows[i] = load_bytes(from);
      else
        __builtin_memcpy(&rows[i], from, width);
    }
    Bytes quads[4];
    interleave(rows, quads);
    __builtin_memcpy(out, quads, sizeof quads);
    add_rows(rows, sums);
  }
}

// A panel from any strides; quads are words if k is contiguous.
void pack_columns(const PackInt8Args& args, std::int64_t n0, std::int8_t* out, Sums& sums) {
  const std::int64_t left = args.n - n0, whole = args.stride_k == 1 ? args.k / 4 * 4 : 0;
  const int width = left < kPanelColumns ? static_cast<int>(left) : static_cast<int>(kPanelColumns);
  const std::int64_t quads = int8_quads(args.k);
  if (width < kPanelColumns) __builtin_memset(out, 0, static_cast<std::size_t>(quads * kQuadBytes));
  for (int c = 0; c < width; ++c) {
    const std::int8_t* from = args.b + (n0 + c) * args.stride_n;
    std::int8_t* to = out + c * 4;
    std::int32_t sum = 0;
    for (std::int64_t k = 0; k < whole; k += 4) __builtin_memcpy(to + k * kPanelColumns, from + k, 4);
    for (std::int64_t k = 0; k < whole; ++k) sum += from[k];
    for (std::int64_t k = whole; k < quads * 4; ++k) {
      const std::int8_t value = k < args.k ? from[k * args.stride_k] : std::int8_t{0};
      to[k / 4 * kQuadBytes + k % 4] = value;
      sum += value;
    }
    sums[c] = sum;
  }
}

std::int32_t widest_pair(const std::int8_t* packed, std::int64_t bytes) {
  std::int32_t widest = 0;
  for (std::int64_t i = 0; i < bytes; i += 2) {
    const std::int32_t first = packed[i] < 0 ? -packed[i] : packed[i];
    const std::int32_t second = packed[i + 1] < 0 ? -packed[i + 1] : packed[i + 1];
    widest = first + second > widest ? first + second : widest;
  }
  return widest;
}

}  // namespace

void pack_int8(const PackInt8Args& args) {
  const std::int64_t panels = int8_panels(args.n), panel_bytes = int8_quads(args.k) * kQuadBytes;
  std::int32_t widest = 0;
#pragma omp parallel for num_threads(args.num_threads) \
    reduction(max : widest) if (double(args.k) * double(args.n) > 1e5)
  for (std::int64_t p = 0; p < panels; ++p) {
    std::int8_t* out = reinterpret_cast<std::int8_t*>(args.out) + p * panel_bytes;
    Sums sums{};
    if (args.stride_n == 1)
      pack_rows(args, p * kPanelColumns, out, sums);
    else
      pack_columns(args, p * kPanelColumns, out, sums);
    __builtin_memcpy(args.out + panels * panel_bytes + p * kPanelColumns * 4, &sums, sizeof sums);
    const std::int32_t pair = widest_pair(out, panel_bytes);
    widest = pair > widest ? pair : widest;
  }
  const std::int32_t last[kWidestBytes / 4] = {widest};
  __builtin_memcpy(args.out + packed_int8_bytes(args.k, args.n) - kWidestBytes, last, sizeof last);
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
