// Register tile of the INT8 product for processors without a byte dot product.
//
// Bytes are widened to int16 and multiplied in pairs (vpmaddwd and its like): |a * b| <= 255 * 128, so two
// products fit int32 exactly. vpmaddubsw would take bytes directly but saturates its sums at int16.
// A tile is kTileRows rows by 2 vectors of b; its accumulators, 2 of b, and one broadcast of a fill the
// register file. A lane holds half of a quad's sum (2 of its 4 products); halves are added when the tile is
// stored. b's bytes are widened as they are loaded: storing a widened panel for all rows to share was no faster.
#pragma once
#include "int8_gemm.hpp"
#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

using AElement = std::int16_t;

constexpr int kColumns = kVectorBytes / 8;  // b's columns in a vector of int16
constexpr int kVectorsPerPanel = static_cast<int>(kPanelColumns) / kColumns;
constexpr int kTileVectors = 2;
constexpr int kTileColumns = kTileVectors * kColumns;
#if CVPERF_VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int kTileRows = 12;  // 32 vector registers
#else
constexpr int kTileRows = 6;  // 16 vector registers
#endif
constexpr int kTilePanels = 1;
constexpr std::int64_t kBlockQuads = 256;  // a block of b's panel (16 KB) and the tile's rows (12 KB) stay in L1
constexpr std::int64_t kBlockRows = 192;   // a's widened block (384 KB) stays in L2
constexpr int kShift = 0;                  // what widen_a adds to signed elements

CVPERF_INLINE Vec<std::int32_t> multiply_pairs(Vec<std::int16_t> a, Vec<std::int16_t> b) {
#if defined(__AVX512BW__) && CVPERF_VECTOR_BYTES == 64
  return (Vec<std::int32_t>)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__) && CVPERF_VECTOR_BYTES == 32
  return (Vec<std::int32_t>)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__) && CVPERF_VECTOR_BYTES == 16
  return (Vec<std::int32_t>)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  const Vec<std::int32_t> x = (Vec<std::int32_t>)a, y = (Vec<std::int32_t>)b;
  return ((x << 16) >> 16) * ((y << 16) >> 16) + (x >> 16) * (y >> 16);
#endif
}

CVPERF_INLINE Vec<std::int16_t> load_b(const std::int8_t* p) {
#if defined(__AVX512BW__) && CVPERF_VECTOR_BYTES == 64
  return (Vec<std::int16_t>)_mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__AVX2__) && CVPERF_VECTOR_BYTES == 32  // GCC splits the conversion below into halves
  return (Vec<std::int16_t>)_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  typedef std::int8_t Narrow __attribute__((vector_size(CVPERF_VECTOR_BYTES / 2)));
  Narrow narrow;
  __builtin_memcpy(&narrow, p, sizeof narrow);
  return __builtin_convertvector(narrow, Vec<std::int16_t>);
#endif
}

CVPERF_INLINE Vec<std::int16_t> broadcast_quad(const std::int16_t* p) {
  std::int64_t quad;
  __builtin_memcpy(&quad, p, sizeof quad);
  return (Vec<std::int16_t>)(Vec<std::int64_t>{} + quad);
}

// Adds neighbouring lanes of two vectors and writes the 2 * kColumns sums.
template <bool kAdd>
CVPERF_INLINE void store_pair_sums(std::int32_t* out, Vec<std::int32_t> low, Vec<std::int32_t> high) {
#if defined(__AVX2__) && CVPERF_VECTOR_BYTES == 32
  Vec<std::int32_t> sums =
      (Vec<std::int32_t>)_mm256_permute4x64_epi64(_mm256_hadd_epi32((__m256i)low, (__m256i)high), 0xd8);
  if (kAdd) {
    Vec<std::int32_t> before;
    __builtin_memcpy(&before, out, sizeof before);
    sums += before;
  }
  __builtin_memcpy(out, &sums, sizeof sums);
#else
  typedef std::uint32_t Half __attribute__((vector_size(CVPERF_VECTOR_BYTES / 2)));
  const Vec<std::uint64_t> x = (Vec<std::uint64_t>)low, y = (Vec<std::uint64_t>)high;
  Half sums[2] = {__builtin_convertvector(x + (x >> 32), Half), __builtin_convertvector(y + (y >> 32), Half)};
  if (kAdd) {
    Half before[2];
    __builtin_memcpy(before, out, sizeof before);
    sums[0] += before[0];
    sums[1] += before[1];
  }
  __builtin_memcpy(out, sums, sizeof sums);
#endif
}

// acc[R][V * kColumns] (+)= a[R][quads * 4] * b[quads][V vectors of a panel].
template <int R, int V, bool kAdd>
inline __attribute__((noinline)) void tile(const std::int16_t* a, std::int64_t a_stride, const std::int8_t* b,
                                           std::int64_t quads, std::int32_t* acc, std::int64_t acc_stride) {
  Vec<std::int32_t> sum[R][V];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) sum[r][v] = Vec<std::int32_t>{};
  // Groups of three rows: x86 addresses reach p, p + stride and p + 2 * stride.
  constexpr int kGroups = (R + 2) / 3;
  const std::int16_t* rows[kGroups];
  for (int g = 0; g < kGroups; ++g) rows[g] = a + 3 * g * a_stride;
  for (std::int64_t q = 0; q < quads; ++q) {
    Vec<std::int16_t> columns[V];
    for (int v = 0; v < V; ++v) columns[v] = load_b(b + v * kColumns * 4);
    b += kQuadBytes;
    for (int r = 0; r < R; ++r) {
      const Vec<std::int16_t> x = broadcast_quad(rows[r / 3] + (r % 3) * a_stride);
      for (int v = 0; v < V; ++v) sum[r][v] += multiply_pairs(x, columns[v]);
    }
    for (int g = 0; g < kGroups; ++g) rows[g] += 4;
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; v += 2) store_pair_sums<kAdd>(acc + r * acc_stride + v * kColumns, sum[r][v], sum[r][v + 1]);
}

template <int R, int V>
CVPERF_INLINE void run_tile(bool add, const std::int16_t* a, std::int64_t a_stride, const std::int8_t* b,
                            std::int64_t quads, std::int32_t* acc, std::int64_t acc_stride) {
  if (add)
    tile<R, V, true>(a, a_stride, b, quads, acc, acc_stride);
  else
    tile<R, V, false>(a, a_stride, b, quads, acc, acc_stride);
}

// Picks the tile with `rows` rows, 1 to R.
template <int R>
void run_rows(int rows, bool add, const std::int16_t* a, std::int64_t a_stride, const std::int8_t* b,
              std::int64_t quads, std::int32_t* acc, std::int64_t acc_stride) {
  if constexpr (R > 1)
    if (rows < R) return run_rows<R - 1>(rows, add, a, a_stride, b, quads, acc, acc_stride);
  run_tile<R, kTileVectors>(add, a, a_stride, b, quads, acc, acc_stride);
}

// One panel.
void compute(int rows, int /*panels*/, bool add, const std::int16_t* a, std::int64_t a_stride, const std::int8_t* b,
             std::int64_t /*panel_stride*/, std::int64_t quads, std::int32_t* acc, std::int64_t acc_stride) {
  // Few rows leave registers for the whole panel, which is then read once, in order.
  constexpr int V = kVectorsPerPanel;
  if (rows == 1) return run_tile<1, V>(add, a, a_stride, b, quads, acc, acc_stride);
  if constexpr (V > kTileVectors && V <= 4)
    if (rows == 2) return run_tile<2, V>(add, a, a_stride, b, quads, acc, acc_stride);
  for (int c = 0; c < kPanelColumns; c += kTileColumns)
    run_rows<kTileRows>(rows, add, a, a_stride, b + c * 4, quads, acc + c, acc_stride);
}

template <class T>
CVPERF_INLINE void widen_16(const T* from, std::int16_t* to) {
#if defined(__AVX2__)
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      T(-1) < T(0) ? _mm256_cvtepi8_epi16(bytes) : _mm256_cvtepu8_epi16(bytes));
#else
  for (int i = 0; i < 16; ++i) to[i] = from[i];
#endif
}

// out[rows][out_stride] = a[rows][count], zero padded to whole quads.
template <class T>
void widen_a(const T* a, std::int64_t a_stride, std::int64_t rows, std::int64_t count, std::int16_t* out,
             std::int64_t out_stride) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const T* from = a + r * a_stride;
    std::int16_t* to = out + r * out_stride;
    std::int64_t i = 0;
    for (; i + 16 <= count; i += 16) widen_16(from + i, to + i);
    for (; i < count; ++i) to[i] = from[i];
    for (; i % 4 != 0; ++i) to[i] = 0;
  }
}

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf
