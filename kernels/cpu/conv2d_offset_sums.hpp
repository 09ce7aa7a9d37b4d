// Sums over pixels of X[pixel + k] * dY[pixel][filter] by the register tile of conv2d_offset_tile.hpp: what the
// gradients of the weight end in, the direct one and Winograd's.
#pragma once
#include "conv2d_offset_tile.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

template <class C>
constexpr std::int64_t kPanel = kOffsetVectors * kLanes<C>;  // filters that lie together in the copy of dY

// Pixels (or tiles) as the register tile sees them.
template <class C>
struct Windows {
  const C* strip;
  const C* gradient;             // [filter_block / kPanel][panel_size]
  std::int64_t panel_size;       // from one panel of filters to the next
  const std::int64_t* in_strip;  // [depth]: where the window of k starts
  const std::int64_t* pixel;     // [pixels]: offset in the strip
  const std::int64_t* row;       // [pixels]: offset in the gradient
  std::int64_t depth, pixels, filter_block;
  bool first;  // nothing is in the sums yet
};

// Adds the pixels to (starts with them) sums [depth][filter_block] for `Vectors` vectors of filters from `filter` on.
template <int Vectors, class C>
void add_tiles(const Windows<C>& w, std::int64_t filter, C* sums) {
  constexpr int tile = offset_rows(Vectors), lanes = kLanes<C>;
  for (std::int64_t k = 0; k < w.depth; k += tile) {
    const C* a[tile];
    Vec<C> sum[tile][Vectors];
#pragma GCC unroll 8
    for (int i = 0; i < tile; ++i) {
      a[i] = w.strip + w.in_strip[k + i < w.depth ? k + i : w.depth - 1];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sum[i][v] = Vec<C>{};
    }
    multiply_offsets(a, w.pixel, w.gradient + filter / kPanel<C> * w.panel_size, w.row, w.pixels, sum);
#pragma GCC unroll 8
    for (int i = 0; i < tile; ++i) {
      if (k + i >= w.depth) break;
      C* to = sums + (k + i) * w.filter_block + filter;
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) store(to + v * lanes, w.first ? sum[i][v] : load(to + v * lanes) + sum[i][v]);
    }
  }
}

template <class C>
void add_windows(const Windows<C>& w, C* sums) {
  constexpr std::int64_t lanes = kLanes<C>;
  for (std::int64_t filter = 0; filter < w.filter_block; filter += kPanel<C>) {
    switch ((w.filter_block - filter) / lanes) {
      case 1:
        add_tiles<1>(w, filter, sums);
        break;
#if CVPERF_VECTOR_BYTES == 64
      case 2:
        add_tiles<2>(w, filter, sums);
        break;
      case 3:
        add_tiles<3>(w, filter, sums);
        break;
#endif
      default:
        add_tiles<kOffsetVectors>(w, filter, sums);
    }
  }
}

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf
