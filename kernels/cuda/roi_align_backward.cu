// RoI Align, gradient of the maps: every tile of pixels gathers from the boxes that touch it.
//
// Idea: no atomics and no order left to chance. A block owns 8 x 8 pixels of a map and a slice of its channels, a
// thread one row of them for 16 bytes of channels, in float32 registers. The block looks at all boxes, a box a thread,
// keeps those that touch the tile in their order (ballots and a prefix sum in shared memory), and adds them one after
// the other: so neither lists nor their sizes pass memory, and a pixel sums its boxes in ascending order whatever runs
// when. Separable as the forward: for one column of bins the rows of bins that touch the thread's row of pixels are
// first added up, sum_i wy[i, y] * grad[i, j]; then each of its 8 pixels adds wx[j, x] times that. Lanes lie along
// channels: the weights are the same for a warp, and a row that no bin touches costs a warp next to nothing.
// roi_weights makes the tables of weights, once a box for all tiles and channels; the two kernels take all levels.
//
// Predicted: cvperf/backends/cuda/roi_model.py. Source of the idea: kernels/cpu/roi_align_backward.cpp.
//
// Not yet run on hardware.
#include "roi_hits.cuh"
#include "roi_sampling.cuh"
#include "roi_vector.cuh"

namespace gpu {

constexpr int kTile = 8;             // pixels each way
constexpr float kUntouched = -1.0f;  // no weight: the bin does not read the pixel (it may read one with weight zero)

// [first, last) pixel that some bin reads.
__device__ __forceinline__ int2 extent_of(const int2* reach, int bins) {
  int2 extent = make_int2(0, 0);
  for (int p = 0; p < bins; ++p) {
    if (reach[p].y == 0) continue;
    extent.x = extent.y ? min(extent.x, reach[p].x) : reach[p].x;
    extent.y = max(extent.y, reach[p].y);
  }
  return extent;
}

}  // namespace gpu

// Block: one box, any number of threads. Dynamic shared memory: int2 [bins_y + bins_x].
__global__ void __launch_bounds__(128, 1) roi_weights(
    const __grid_constant__ gpu::Sampling s, const float* __restrict__ boxes, const int* __restrict__ levels,
    float* __restrict__ weights,  // [boxes, bins_y, pitch_y], then [boxes, bins_x, pitch_x]: where a box is
    int2* __restrict__ touching,  // [boxes, (pitch_y + pitch_x) / kTile]: [first, last) bins that read a tile
    int4* __restrict__ extents,   // [boxes]: [first, last) row, then column, that a box reads
    int* __restrict__ places,     // [boxes]: level * images + image; -1: it reads nothing
    int pitch_y, int pitch_x) {   // multiples of kTile, at least the highest and the widest map
  using namespace gpu;
  DYNAMIC_SHARED(int2, reach);  // [first, last) pixel of each bin
  const int k = blockIdx.x;
  const Place place = place_of(s, boxes, levels, k);
  if (threadIdx.x == 0) places[k] = place.level < 0 ? -1 : place.level * s.images + place.image;
  if (place.level < 0) return;

  int2 range[2];  // tiles that a box can reach
#pragma unroll
  for (int a = 0; a < 2; ++a) {
    const Axis axis = axis_of(s, boxes, k, place.level, a);
    const int bins = a ? s.bins_x : s.bins_y, pitch = a ? pitch_x : pitch_y;
    const double begin = axis.start, end = axis.start + __dmul_rn(axis.bin, static_cast<double>(bins));
    const int low = clamped((begin < end ? begin : end) - 1.0, axis.pixels);
    const int high = clamped((begin < end ? end : begin) + 3.0, axis.pixels);
    range[a] = make_int2(low / kTile, (high + kTile - 1) / kTile);
    const int first = range[a].x * kTile, count = range[a].y * kTile - first;
    float* const table = weights + (a ? static_cast<long long>(gridDim.x) * s.bins_y * pitch_y : 0) +
                         static_cast<long long>(k) * bins * pitch;
    for (int each = threadIdx.x; each < bins * count; each += blockDim.x) {
      table[static_cast<long long>(each / count) * pitch + first + each % count] = kUntouched;
    }
  }
  __syncthreads();
  for (int each = threadIdx.x; each < s.bins_y + s.bins_x; each += blockDim.x) {
    const int a = each < s.bins_y ? 0 : 1, p = a ? each - s.bins_y : each;
    float* const row = a ? weights + static_cast<long long>(gridDim.x) * s.bins_y * pitch_y +
                               (static_cast<long long>(k) * s.bins_x + p) * pitch_x
                         : weights + (static_cast<long long>(k) * s.bins_y + p) * pitch_y;
    int2 pixels = make_int2(0, 0);
    each_tap(axis_of(s, boxes, k, place.level, a), p, [&](int pixel, float weight) {
      row[pixel] = weight;
      if (pixels.y == 0) pixels.x = pixel;
      pixels.y = pixel + 1;
    });
    reach[each] = pixels;
  }
  __syncthreads();
  const int tiles_y = range[0].y - range[0].x, tiles = tiles_y + range[1].y - range[1].x;
  int2* const its_touching = touching + static_cast<long long>(k) * ((pitch_y + pitch_x) / kTile);
  for (int each = threadIdx.x; each < tiles; each += blockDim.x) {
    const int a = each < tiles_y ? 0 : 1, tile = a ? range[1].x + each - tiles_y : range[0].x + each;
    const int bins = a ? s.bins_x : s.bins_y;
    const int2* const its_reach = reach + (a ? s.bins_y : 0);
    int2 found = make_int2(0, 0);
    for (int p = 0; p < bins; ++p) {
      if (its_reach[p].x >= (tile + 1) * kTile || its_reach[p].y <= tile * kTile) continue;
      if (found.y == 0) found.x = p;
      found.y = p + 1;
    }
    its_touching[(a ? pitch_y / kTile : 0) + tile] = found;
  }
  if (threadIdx.x == 0) {
    const int2 rows = gpu::extent_of(reach, s.bins_y), columns = gpu::extent_of(reach + s.bins_y, s.bins_x);
    extents[k] = make_int4(rows.x, rows.y, columns.x, columns.y);
  }
}

namespace gpu {

struct Tile {
  int level, image, row, column;  // row and column of tiles
};

// Tiles are numbered level by level, image by image, row by row.
__device__ __forceinline__ Tile find_tile(const Sampling& s, int number) {
  for (int level = 0;; ++level) {
    const int columns = (s.width[level] + kTile - 1) / kTile, rows = (s.height[level] + kTile - 1) / kTile;
    const int plane = rows * columns, count = s.images * plane;
    if (number < count || level + 1 == s.levels) {
      return {level, number / plane, number % plane / columns, number % plane % columns};
    }
    number -= count;
  }
}

// The first `count` of a row of pixels, in accesses as wide as rows of such a width are aligned.
template <class T>
__device__ __forceinline__ void store_pixels(T* row, const float (&values)[kTile], int count, int width) {
  constexpr int kVector = 16 / sizeof(T);
  if (width % kVector == 0) {
#pragma unroll
    for (int i = 0; i < kTile; i += kVector) {
      float some[kVector];
#pragma unroll
      for (int each = 0; each < kVector; ++each) some[each] = values[i + each];
      if (i < count) Vector<T, kVector>::store(row + i, some);
    }
    return;
  }
  if constexpr (sizeof(T) == 2) {
    if (width % 2 == 0) {
#pragma unroll
      for (int i = 0; i < kTile; i += 2) {
        if (i < count) *reinterpret_cast<unsigned*>(row + i) = pack<T>(values[i], values[i + 1]);
      }
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    if (i < count) row[i] = from_float<T>(values[i]);
  }
}

}  // namespace gpu

// Block (tile * slices + slice of the channels) of kTile * lanes threads, lanes 4 to 32: `lanes` vectors of VEC
// channels are a slice. channels % VEC == 0.
template <class T, int VEC>
__global__ void __launch_bounds__(256, 2)
    roi_align_backward(const __grid_constant__ gpu::Sampling s, const __grid_constant__ gpu::Maps outputs,
                       const T* __restrict__ grad,  // [boxes, bins_y, bins_x, channels]
                       const float* __restrict__ weights, const int2* __restrict__ touching,  // of roi_weights
                       const int4* __restrict__ extents, const int* __restrict__ places, int boxes, int channels,
                       int pitch_y, int pitch_x, int lanes,
                       int channels_last) {  // how the outputs lie
  using namespace gpu;
  SHARED(Hit, hits, [256]);
  SHARED(int, hits_of_warp, [8]);
  const int slices = (channels + lanes * VEC - 1) / (lanes * VEC);
  const Tile tile = find_tile(s, blockIdx.x / slices);
  const int y = tile.row * kTile + threadIdx.x / lanes, x = tile.column * kTile;
  const int channel = (static_cast<int>(blockIdx.x) % slices * lanes + static_cast<int>(threadIdx.x) % lanes) * VEC;
  const int mine = tile.level * s.images + tile.image;
  const float* const columns = weights + static_cast<long long>(boxes) * s.bins_y * pitch_y + x;
  const Vector<T, VEC>* const grads = reinterpret_cast<const Vector<T, VEC>*>(grad + channel);
  const int vectors = channels / VEC;
  float sum[kTile][VEC] = {};

  for (int base = 0; base < boxes; base += blockDim.x) {
    const int k = base + threadIdx.x;
    bool hit = k < boxes && places[k] == mine;
    if (hit) {
      const int4 extent = extents[k];
      hit = extent.x < (tile.row + 1) * kTile && extent.y > tile.row * kTile && extent.z < x + kTile && extent.w > x;
    }
    const Slot slot = slot_of(hit, hits_of_warp);
    if (hit) {
      const int2* const its_touching = touching + static_cast<long long>(k) * ((pitch_y + pitch_x) / kTile);
      const int2 i = its_touching[tile.row], j = its_touching[pitch_y / kTile + tile.column];
      Hit& one = hits[slot.place];
      one.box = k;
      one.first_row = static_cast<short>(i.x), one.last_row = static_cast<short>(i.y);
      one.first_column = static_cast<short>(j.x), one.last_column = static_cast<short>(j.y);
    }
    __syncthreads();
    for (int n = 0; n < slot.total; ++n) {
      const Hit one = hits[n];
      const float* its_rows = weights + static_cast<long long>(one.box) * s.bins_y * pitch_y + y;
      int first = one.first_row, last = one.last_row;  // narrowed to the bins that touch this row
      while (first < last && its_rows[first * pitch_y] < 0.0f) ++first;
      while (first < last && its_rows[(last - 1) * pitch_y] < 0.0f) --last;
      if (first == last || channel >= channels) continue;
      its_rows += first * pitch_y;
      const float* column = columns + (static_cast<long long>(one.box) * s.bins_x + one.first_column) * pitch_x;
      const long long bin = (static_cast<long long>(one.box) * s.bins_y + first) * s.bins_x + one.first_column;
      const Vector<T, VEC>* bins = grads + bin * vectors;
#pragma unroll 1
      for (int j = one.first_column; j < one.last_column; ++j, column += pitch_x, bins += vectors) {
        const uint4 low = load16(column), high = load16(column + 4);
        float row_sum[VEC] = {};
        const Vector<T, VEC>* value = bins;
        const float* weight_of_row = its_rows;
#pragma unroll 1
        for (int i = first; i < last; ++i, value += vectors * s.bins_x, weight_of_row += pitch_y) {
          value->add_to(row_sum, *weight_of_row);
        }
        const unsigned weight[kTile] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
        for (int each = 0; each < kTile; ++each) {
          const float its_weight = __uint_as_float(weight[each]);
          if (its_weight >= 0.0f) {  // not even zero times infinity reaches a pixel that the bin does not read
#pragma unroll
            for (int v = 0; v < VEC; ++v) sum[each][v] += its_weight * row_sum[v];
          }
        }
      }
    }
  }

  const int height = s.height[tile.level], width = s.width[tile.level];
  if (y >= height || channel >= channels) return;
  T* const output = static_cast<T*>(outputs.level[tile.level]);
  if (channels_last) {
    T* const row = output + ((static_cast<long long>(tile.image) * height + y) * width + x) * channels + channel;
#pragma unroll
    for (int each = 0; each < kTile; ++each) {
      if (x + each < width) Vector<T, VEC>::store(row + static_cast<long long>(each) * channels, sum[each]);
    }
    return;
  }
  const long long plane = static_cast<long long>(height) * width;
  T* const row = output + (static_cast<long long>(tile.image) * channels + channel) * plane + y * width + x;
#pragma unroll
  for (int v = 0; v < VEC; ++v) {
    float values[kTile];
#pragma unroll
    for (int each = 0; each < kTile; ++each) values[each] = sum[each][v];
    store_pixels(row + v * plane, values, width - x, width);
  }
}
