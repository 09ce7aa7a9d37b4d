// What RoI Align's forward and backward share: blocks of channels with the channels in the lanes. A block is
// [position][lanes] in the compute type; a position is a pixel of a map or a bin of a box. NCHW memory becomes such
// a block and back by transposing squares in registers.
#pragma once
#include "shuffle.hpp"
#include "simd.hpp"
#include "thread_index.hpp"

namespace cvperf {
namespace CVPERF_ISA {

// Channels of a block: 256 bytes, enough to keep the multiply-adds of one pixel busy, and few enough that a map's
// block stays in cache. At most 8 vectors, as sums over a block are kept in registers.
constexpr int kBlockVectors = 256 / kVectorBytes < 8 ? 256 / kVectorBytes : 8;
template <class C>
constexpr int kBlockLanes = kBlockVectors * kLanes<C>;

// The vectors that hold `channels` channels, of one block at most.
template <class C>
CVPERF_INLINE int block_vectors(std::int64_t channels) {
  return channels < kBlockLanes<C> ? static_cast<int>((channels + kLanes<C> - 1) / kLanes<C>) : kBlockVectors;
}

// [channel][size] -> [position][lanes] for positions begin .. end - 1 and the vector of channels that starts at
// `lane`. Lanes past the last channel repeat it.
template <class T, class C = Compute<T>>
void channels_to_lanes(const T* in, std::int64_t size, std::int64_t channels, std::int64_t begin, std::int64_t end,
                       int lane, int lanes, C* out) {
  constexpr int kL = kLanes<C>;
  const T* rows[kL];
  for (int i = 0; i < kL; ++i) rows[i] = in + (lane + i < channels ? lane + i : channels - 1) * size;
  for (std::int64_t p = begin; p < end; p += kL) {
    // The last square is moved back to end where the others do, so that it is whole.
    const std::int64_t at = p + kL <= end || end - begin < kL ? p : end - kL;
    Vec<C> square[kL];
    if (at + kL <= size) {
#pragma GCC unroll 16
      for (int i = 0; i < kL; ++i) square[i] = load(rows[i] + at);
    } else {
      for (int i = 0; i < kL; ++i) square[i] = load_partial(rows[i] + at, static_cast<int>(size - at));
    }
    transpose_square<C>(square);
#pragma GCC unroll 16
    for (int i = 0; i < kL; ++i) {
      if (at + i >= end) break;
      store(out + (at + i) * lanes + lane, square[i]);
    }
  }
}

// The other way: [position][lanes] -> [channel][size] for positions begin .. end - 1. `in` starts at position begin.
template <class T, class C = Compute<T>>
void lanes_to_channels(const C* in, int lanes, std::int64_t begin, std::int64_t end, std::int64_t size,
                       std::int64_t channels, T* out) {
  constexpr int kL = kLanes<C>;
  const std::int64_t count = end - begin;
  out += begin;
  if (count < kL) {
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t p = 0; p < count; ++p) out[c * size + p] = from_compute<T>(in[p * lanes + c]);
    }
    return;
  }
  for (std::int64_t lane = 0; lane < channels; lane += kL) {
    for (std::int64_t p = 0; p < count; p += kL) {
      const std::int64_t at = p + kL <= count ? p : count - kL;
      Vec<C> square[kL];
#pragma GCC unroll 16
      for (int i = 0; i < kL; ++i) square[i] = load(in + (at + i) * lanes + lane);
      transpose_square<C>(square);
#pragma GCC unroll 16
      for (int i = 0; i < kL; ++i) {
        if (lane + i >= channels) break;
        store(out + (lane + i) * size + at, square[i]);
      }
    }
  }
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
