// Where the tiles of a layer lie, and the transform Bt d B of a tile of its image: what Winograd's algorithm has in
// common forward and for the gradient of the weight.
#pragma once
#include "conv2d_problem.hpp"
#include "conv2d_winograd.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr int kL = kLanes<float>;

CVPERF_INLINE std::int64_t round_up(std::int64_t x) { return (x + kL - 1) / kL * kL; }

struct TilePlace {
  std::int64_t n, y, x;  // image, and the first output of the tile
};

// Tiles of M x M outputs cover every image; the last of a row or column may reach beyond it.
template <int M>
struct WinogradGrid {
  explicit WinogradGrid(const ConvProblem& p)
      : batch(p.batch), rows((p.out_height + M - 1) / M), columns((p.out_width + M - 1) / M) {}
  std::int64_t tiles() const { return batch * rows * columns; }
  TilePlace place(std::int64_t tile) const {
    return {tile / (rows * columns), tile / columns % rows * M, tile % columns * M};
  }
  std::int64_t batch, rows, columns;
};

// One vector of channels of a tile, pixel(i * tile + j), to put(point, v).
template <int M, class Load, class Store>
CVPERF_INLINE void transform_channels(Load pixel, Store put) {
  using W = Winograd<M>;
  constexpr int kTile = W::kTile;
  Vec<float> columns[kTile][kTile];  // [column][point along y]
#pragma GCC unroll 6
  for (int j = 0; j < kTile; ++j) {
    Vec<float> d[kTile];
#pragma GCC unroll 6
    for (int i = 0; i < kTile; ++i) d[i] = pixel(i * kTile + j);
    W::input(d, columns[j]);
  }
#pragma GCC unroll 6
  for (int i = 0; i < kTile; ++i) {
    Vec<float> d[kTile], v[kTile];
#pragma GCC unroll 6
    for (int j = 0; j < kTile; ++j) d[j] = columns[j][i];
    W::input(d, v);
#pragma GCC unroll 6
    for (int j = 0; j < kTile; ++j) put(i * kTile + j, v[j]);
  }
}

// The channels of a tile at every point: to[point * step + channel]. `zeros` stand in for pixels beyond the image.
template <class T, int M>
void transform_image_tile(const ConvProblem& p, std::int64_t group, TilePlace tile, const T* zeros, float* to,
                          std::int64_t step) {
  constexpr int kTile = Winograd<M>::kTile;
  const T* from = static_cast<const T*>(p.in) + tile.n * p.in_batch + group * p.channels;
  const T* pixels[kTile * kTile];
  for (int i = 0; i < kTile; ++i)
    for (int j = 0; j < kTile; ++j) {
      const std::int64_t y = tile.y + i + p.tap_rows->offset, x = tile.x + j + p.tap_columns->offset;
      const bool inside = y >= 0 && y < p.in_height && x >= 0 && x < p.in_width;
      pixels[i * kTile + j] = inside ? from + y * p.in_row + x * p.in_column : zeros;
    }
  std::int64_t c = 0;
  for (; c + kL <= p.channels; c += kL)
    transform_channels<M>([&](int point) { return load(pixels[point] + c); },
                          [&](int point, Vec<float> v) { store(to + point * step + c, v); });
  if (c == p.channels) return;
  const int left = static_cast<int>(p.channels - c);
  transform_channels<M>([&](int point) { return load_partial(pixels[point] + c, left); },
                        [&](int point, Vec<float> v) { store_partial(to + point * step + c, v, left); });
}

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf
