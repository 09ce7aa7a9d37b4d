// Register tile of the INT8 product for processors without a byte dot product; included by int8_tile.hpp.
//
// Bytes are widened to int16 and multiplied in pairs (vpmaddwd and its like): |a * b| <= 255 * 128, so two
// products fit int32 exactly. vpmaddubsw would take bytes directly but saturates its sums at int16.
// A tile is kTileRows rows by 2 vectors of b; its accumulators, 2 of b, and one broadcast of a fill the
// register file. A lane holds half of a quad's sum (2 of its 4 products); halves are added when the tile is
// stored. b's bytes are widened as they are loaded: storing a widened panel for all rows to share was no faster.
#pragma once

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr int kTileVectors = 2;
constexpr int kTileColumns = kTileVectors * kColumns;
#if CVPERF_VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int kTileRows = 12;  // 32 vector registers
#else
constexpr int kTileRows = 6;  // 16 vector registers
#endif
constexpr int kTilePanels = 1;
constexpr std::int64_t kBlockQuads = 256;         // a block of b's panel (16 KB) and the tile's rows (12 KB) stay in L1
constexpr std::int64_t kBlockBytes = 384 * 1024;  // of widened a, which stay in L2
constexpr double kWorkOfThread = 2e5;             // multiply-adds that pay for a thread: about 2 microseconds

CVPERF_INLINE Vec<std::int16_t> broadcast_quad(const std::int16_t* p) {
  std::int64_t quad;
  __builtin_memcpy(&quad, p, sizeof quad);
  return (Vec<std::int16_t>)(Vec<std::int64_t>{} + quad);
}

// R rows by V vectors of the panel, from column `first` of it.
template <int R, int V>
inline __attribute__((noinline)) void tile(const Tile& t, int first) {
  Vec<std::int32_t> sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) sum[r][v] = Vec<std::int32_t>{};
  constexpr int kGroups = (R + 2) / 3;  // of three rows: x86 addresses reach p, p + stride and p + 2 * stride
  const std::int16_t* rows[kGroups];
#pragma GCC unroll 16
  for (int g = 0; g < kGroups; ++g) rows[g] = t.a + 3 * g * t.a_stride;
  const std::int8_t* b = t.b + first * 4;
  const std::int64_t a_stride = t.a_stride;
  for (std::int64_t q = 0; q < t.quads; ++q) {
    Vec<std::int16_t> columns[V];
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) columns[v] = load_b(b + v * kColumns * 4);
    b += kQuadBytes;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vec<std::int16_t> x = broadcast_quad(rows[r / 3] + (r % 3) * a_stride);
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) sum[r][v] += multiply_pairs(x, columns[v]);
    }
#pragma GCC unroll 16
    for (int g = 0; g < kGroups; ++g) rows[g] += 4;
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < V; v += 2) {
      const std::int64_t at = first + v * kColumns;
      store_pair_sums(t.out + r * t.out_stride + at, t.init + r * t.init_stride + at, sum[r][v], sum[r][v + 1]);
    }
}

// Picks the tile with `rows` rows, 1 to R.
template <int R>
void compute_rows(int rows, const Tile& t, int first) {
  if constexpr (R > 1)
    if (rows < R) return compute_rows<R - 1>(rows, t, first);
  tile<R, kTileVectors>(t, first);
}

// The tile of `rows` by one panel.
void compute(int rows, int /*panels*/, const Tile& t) {
  // Few rows leave registers for the whole panel, which is then read once, in order.
  constexpr int V = kVectorsPerPanel;
  if (rows == 1) return tile<1, V>(t, 0);
  if constexpr (V > kTileVectors && V <= 4)
    if (rows == 2) return tile<2, V>(t, 0);
  for (int c = 0; c < kPanelColumns; c += kTileColumns) compute_rows<kTileRows>(rows, t, c);
}

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf
