// Register tile of conv2d_binary: how many bits of pixels and filters differ.
//
// With AVX-512's VPOPCNTDQ a vector of xors is counted by one instruction, in lanes of int32 as they are summed. It is
// asked of the processor at run time: some that have VNNI lack it. Without it the bits of bytes are counted, by a
// table of half bytes where there is a shuffle of bytes (Mula, Kurz and Lemire, "Faster Population Counts Using AVX2
// Instructions", 2018) and by sums of neighbours where there is none; bytes hold the counts of 31 words, and are added
// to the lanes then.
#pragma once
#include "conv2d_binary.hpp"
#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr int kVectors = static_cast<int>(kBinaryPanel) / kLanes<std::int32_t>;  // of a panel
constexpr int kRows = CVPERF_VECTOR_BYTES == 16 ? 2 : 4;                         // pixels of a tile
constexpr int kPanels = CVPERF_VECTOR_BYTES == 64 ? 4 : 1;

// The words of a window lie in `kernel_rows` rows, each `runs` runs of `run_words` words. Those of a panel's weight lie
// in the same order, without gaps within a row.
struct BinaryTile {
  const std::uint32_t* image;   // the first tap's first word for the first pixel
  const std::uint32_t* weight;  // that of the first panel
  std::int64_t pixel_step;      // of the image, in words, as all of these
  std::int64_t kernel_rows, image_row_step, weight_row_step;
  std::int64_t runs, run_step, run_words;
  std::int64_t panel_step;
};

CVPERF_INLINE Vec<std::uint32_t> words_at(const std::uint32_t* from) {
  Vec<std::uint32_t> words;
  __builtin_memcpy(&words, from, sizeof words);
  return words;
}

// The bits of each byte.
CVPERF_INLINE Vec<std::uint32_t> counts_of_bytes(Vec<std::uint32_t> x) {
#if (defined(__AVX512BW__) && CVPERF_VECTOR_BYTES == 64) || (defined(__AVX2__) && CVPERF_VECTOR_BYTES == 32)
  const Vec<std::uint32_t> low = x & 0x0f0f0f0fu, high = (x >> 4) & 0x0f0f0f0fu;
#if CVPERF_VECTOR_BYTES == 64
  const __m512i table = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
  return (Vec<std::uint32_t>)_mm512_add_epi8(_mm512_shuffle_epi8(table, (__m512i)low),
                                             _mm512_shuffle_epi8(table, (__m512i)high));
#else
  const __m256i table = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
  return (Vec<std::uint32_t>)_mm256_add_epi8(_mm256_shuffle_epi8(table, (__m256i)low),
                                             _mm256_shuffle_epi8(table, (__m256i)high));
#endif
#else
  x = x - ((x >> 1) & 0x55555555u);
  x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
  return (x + (x >> 4)) & 0x0f0f0f0fu;
#endif
}

// The bytes of a lane, summed.
CVPERF_INLINE Vec<std::uint32_t> summed_bytes(Vec<std::uint32_t> x) {
  x = (x & 0x00ff00ffu) + ((x >> 8) & 0x00ff00ffu);
  return (x & 0xffffu) + (x >> 16);
}

constexpr std::int64_t kWordsOfBytes = 31;  // 31 * 8 bits fit a byte

template <int R, int V>
CVPERF_INLINE void add_bytes(Vec<std::uint32_t> (&bytes)[R][V], std::int32_t* counts) {
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) {
      std::int32_t* const to = counts + (r * V + v) * kLanes<std::int32_t>;
      const Vec<std::uint32_t> sum = words_at(reinterpret_cast<std::uint32_t*>(to)) + summed_bytes(bytes[r][v]);
      __builtin_memcpy(to, &sum, sizeof sum);
      bytes[r][v] = Vec<std::uint32_t>{};
    }
}

template <int R, int P>
inline __attribute__((noinline)) void count_bytes(const BinaryTile& t, std::int32_t* counts) {
  constexpr int V = P * kVectors;
  Vec<std::uint32_t> bytes[R][V]{};
  for (int i = 0; i < R * P * static_cast<int>(kBinaryPanel); ++i) counts[i] = 0;
  std::int64_t room = kWordsOfBytes;
  for (std::int64_t row = 0; row < t.kernel_rows; ++row) {
    const std::uint32_t* weight = t.weight + row * t.weight_row_step;
    for (std::int64_t run = 0; run < t.runs; ++run) {
      const std::uint32_t* image = t.image + row * t.image_row_step + run * t.run_step;
      for (std::int64_t left = t.run_words; left > 0;) {
        const std::int64_t count = left < room ? left : room;
        for (std::int64_t w = 0; w < count; ++w, ++image, weight += kBinaryPanel) {
          Vec<std::uint32_t> words[V];
#pragma GCC unroll 16
          for (int v = 0; v < V; ++v)
            words[v] = words_at(weight + v / kVectors * t.panel_step + v % kVectors * kLanes<std::int32_t>);
#pragma GCC unroll 8
          for (int r = 0; r < R; ++r) {
            const Vec<std::uint32_t> x = Vec<std::uint32_t>{} + image[r * t.pixel_step];
#pragma GCC unroll 16
            for (int v = 0; v < V; ++v) bytes[r][v] += counts_of_bytes(x ^ words[v]);
          }
        }
        left -= count;
        room -= count;
        if (room == 0) {
          add_bytes<R, V>(bytes, counts);
          room = kWordsOfBytes;
        }
      }
    }
  }
  add_bytes<R, V>(bytes, counts);
}

#if defined(__AVX512VNNI__) && CVPERF_VECTOR_BYTES == 64
CVPERF_INLINE bool counts_vectors() { return __builtin_cpu_supports("avx512vpopcntdq"); }

template <int R, int P>
inline __attribute__((noinline, target("avx512vpopcntdq"))) void count_vectors(const BinaryTile& t,
                                                                               std::int32_t* counts) {
  Vec<std::int32_t> sums[R][P]{};
  for (std::int64_t row = 0; row < t.kernel_rows; ++row) {
    const std::uint32_t* weight = t.weight + row * t.weight_row_step;
    for (std::int64_t run = 0; run < t.runs; ++run) {
      const std::uint32_t* image = t.image + row * t.image_row_step + run * t.run_step;
      for (std::int64_t w = 0; w < t.run_words; ++w, ++image, weight += kBinaryPanel) {
        Vec<std::uint32_t> words[P];
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) __builtin_memcpy(&words[p], weight + p * t.panel_step, sizeof words[p]);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          const Vec<std::uint32_t> x = Vec<std::uint32_t>{} + image[r * t.pixel_step];
#pragma GCC unroll 8
          for (int p = 0; p < P; ++p) sums[r][p] += (Vec<std::int32_t>)_mm512_popcnt_epi32((__m512i)(x ^ words[p]));
        }
      }
    }
  }
  __builtin_memcpy(counts, &sums, sizeof sums);
}
#else
CVPERF_INLINE bool counts_vectors() { return false; }
template <int R, int P>
CVPERF_INLINE void count_vectors(const BinaryTile&, std::int32_t*) {}
#endif

template <int R, int P>
void count_rows(const BinaryTile& t, int rows, std::int32_t* counts) {
  if constexpr (R > 1)
    if (rows < R) return count_rows<R - 1, P>(t, rows, counts);
  if (counts_vectors()) return count_vectors<R, P>(t, counts);
  count_bytes<R, P>(t, counts);
}

template <int P>
void count_panels(const BinaryTile& t, int rows, int panels, std::int32_t* counts) {
  if constexpr (P > 1)
    if (panels < P) return count_panels<P - 1>(t, rows, panels, counts);
  count_rows<kRows, P>(t, rows, counts);
}

// counts[rows][panels * kBinaryPanel], of up to kRows pixels and kPanels panels.
CVPERF_INLINE void count_differing(const BinaryTile& t, int rows, int panels, std::int32_t* counts) {
  count_panels<kPanels>(t, rows, panels, counts);
}

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf
