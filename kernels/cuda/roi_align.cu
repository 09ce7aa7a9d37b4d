// RoI Align, forward, on one map or a pyramid of them.
//
// Idea: a block has one box and a slice of its channels. Its threads first make the lists of rows and columns in shared
// memory, one bin of one axis each (roi_sampling.cuh), and choose the level, so a call is one launch. Then each bin is
// the product of its rows and columns with the pixels they cross. Samples that share a pixel have been merged: a bin of
// 2 x 2 samples reads 9 to 16 pixels, one of g x g samples a pixel apart (g + 2)^2 and not 4 g^2.
//
// Channels last: 8 lanes take a line of 128 bytes of a pixel, 16 bytes each; a warp has 4 neighbouring bins, a block
// 32, so the pixels that neighbours share come from L1. Up to four loads of a row are in flight in each thread. NCHW
// output of such maps is turned in shared memory. Planes: lanes lie along the bins of a channel, whose pixels lie near
// each other in a row; the host turns maps to channels last where boxes read much of them.
//
// Predicted: cvperf/backends/cuda/roi_model.py. Source of the idea: kernels/cpu/roi_align.cpp.
//
// Not yet run on hardware.
#include "roi_sampling.cuh"
#include "roi_vector.cuh"

namespace gpu {

constexpr int kLanes = 8;       // that share a pixel
constexpr int kBinsATime = 32;  // of a block
constexpr int kThreads = kLanes * kBinsATime;
constexpr int kInFlight = 4;  // pixels of a row

struct Tap {
  unsigned at;  // offset of a row's first pixel, or of a column from there, in vectors of what a thread loads
  float weight;
};

// The lists of a box in shared memory; bin p of an axis reads taps [range[p].x, range[p].y).
struct Tables {
  Tap *rows, *columns;
  int2 *row_range, *column_range;
};

__device__ __forceinline__ Tables tables_at(const Sampling& s, void* memory, int row_slots, int column_slots) {
  Tables tables;
  tables.rows = static_cast<Tap*>(memory);
  tables.columns = tables.rows + row_slots;
  tables.row_range = reinterpret_cast<int2*>(tables.columns + column_slots);
  tables.column_range = tables.row_range + s.bins_y;
  return tables;
}

// Where the list of bin p may begin. Adaptive samples lie at most a pixel apart (but for rounding), so that bins
// overlap by two pixels and lists of all bins fit in pixels + 4 * bins; others have up to two pixels a sample.
__device__ __forceinline__ int first_slot(const Sampling& s, const Axis& axis, int p) {
  if (s.ratio > 0) return p * min(2 * s.ratio, axis.pixels);
  return clamped(origin_of(axis, p), axis.pixels) - clamped(axis.start, axis.pixels) + 4 * p;
}

// `pitch` vectors lie between neighbouring pixels.
__device__ __forceinline__ void fill_tables(const Sampling& s, const Tables& tables, const float* boxes, int k,
                                            int level, unsigned pitch) {
  for (int each = threadIdx.x; each < s.bins_y + s.bins_x; each += kThreads) {
    const bool is_row = each < s.bins_y;
    const int p = is_row ? each : each - s.bins_y;
    const unsigned step = is_row ? pitch * s.width[level] : pitch;
    const Axis axis = axis_of(s, boxes, k, level, is_row ? 0 : 1);
    Tap* const taps = is_row ? tables.rows : tables.columns;
    const int begin = first_slot(s, axis, p);
    int end = begin;
    each_tap(axis, p, [&](int pixel, float weight) {
      taps[end].at = pixel * step;
      taps[end].weight = weight;
      ++end;
    });
    (is_row ? tables.row_range : tables.column_range)[p] = make_int2(begin, end);
  }
}

// sum += the bin in row i and column j of bins.
template <class T, int VEC>
__device__ __forceinline__ void pool(const Tables& tables, int i, int j, const T* map, float (&sum)[VEC]) {
  const int2 rows = tables.row_range[i], columns = tables.column_range[j];
  const auto* const vectors = reinterpret_cast<const Vector<T, VEC>*>(map);
  for (int first = columns.x; first < columns.y; first += kInFlight) {
    Tap column[kInFlight];
    bool inside[kInFlight];
#pragma unroll
    for (int u = 0; u < kInFlight; ++u) {
      inside[u] = first + u < columns.y;
      column[u] = {0, 0.0f};
      if (inside[u]) column[u] = tables.columns[first + u];
    }
    for (int y = rows.x; y < rows.y; ++y) {
      const Tap row = tables.rows[y];
      Vector<T, VEC> values[kInFlight] = {};
#pragma unroll
      for (int u = 0; u < kInFlight; ++u) {
        if (inside[u]) values[u] = vectors[row.at + column[u].at];
      }
#pragma unroll
      for (int u = 0; u < kInFlight; ++u) values[u].add_to(sum, row.weight * column[u].weight);
    }
  }
}

}  // namespace gpu

// Maps in channels last. Block (box, slice of the channels); TURNED: output is [boxes, channels, bins] and not
// [boxes, bins, channels]. VEC channels a thread, channels % VEC == 0. Shared memory: the tables' slots and ranges.
template <class T, int VEC, bool TURNED>
__global__ void __launch_bounds__(gpu::kThreads, TURNED ? 3 : 4)
    roi_align(const __grid_constant__ gpu::Sampling s, const __grid_constant__ gpu::Maps maps,
              const float* __restrict__ boxes, const int* __restrict__ levels, T* __restrict__ output, int channels,
              int row_slots, int column_slots) {
  using namespace gpu;
  constexpr int kGroup = kLanes * VEC;  // channels that are pooled at a time
  DYNAMIC_SHARED(int2, memory);
  const Tables tables = tables_at(s, memory, row_slots, column_slots);
  const int k = blockIdx.x;
  const Place place = place_of(s, boxes, levels, k);
  if (place.level >= 0) fill_tables(s, tables, boxes, k, place.level, channels / VEC);
  __syncthreads();

  const int level = max(place.level, 0), bins = s.bins_y * s.bins_x;
  const long long plane = static_cast<long long>(s.height[level]) * s.width[level];
  const T* const map = static_cast<const T*>(maps.level[level]) + place.image * plane * channels;
  T* const out = output + static_cast<long long>(k) * bins * channels;
  const int groups = (channels + kGroup - 1) / kGroup, a_slice = (groups + gridDim.y - 1) / gridDim.y;
  const int first_group = blockIdx.y * a_slice, items = (min(first_group + a_slice, groups) - first_group) * bins;
  const int slot = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  for (int base = 0; base < items; base += kBinsATime) {  // an item: a bin of a group
    const int item = base + slot, bin = item % bins;
    const int channel = (first_group + item / bins) * kGroup + lane * VEC;
    const bool active = item < items && channel < channels;
    float sum[VEC] = {};
    if (active && place.level >= 0) pool(tables, bin / s.bins_x, bin % s.bins_x, map + channel, sum);
    if constexpr (!TURNED) {
      if (active) Vector<T, VEC>::store(out + static_cast<long long>(bin) * channels + channel, sum);
    } else {
      SHARED(T, turned, [kGroup][kBinsATime + 1]);
#pragma unroll
      for (int v = 0; v < VEC; ++v) turned[lane * VEC + v][slot] = from_float<T>(sum[v]);
      __syncthreads();
      for (int each = threadIdx.x; each < kGroup * kBinsATime; each += kThreads) {
        const int its_item = base + each % kBinsATime, its_lane = each / kBinsATime;
        const int its_channel = (first_group + its_item / bins) * kGroup + its_lane;
        if (its_item < items && its_channel < channels) {
          out[static_cast<long long>(its_channel) * bins + its_item % bins] = turned[its_lane][each % kBinsATime];
        }
      }
      __syncthreads();
    }
  }
}

// Maps in planes, and so is the output. Block (box, slice of the channels).
template <class T>
__global__ void __launch_bounds__(gpu::kThreads)
    roi_align_planes(const __grid_constant__ gpu::Sampling s, const __grid_constant__ gpu::Maps maps,
                     const float* __restrict__ boxes, const int* __restrict__ levels, T* __restrict__ output,
                     int channels, int row_slots, int column_slots) {
  using namespace gpu;
  DYNAMIC_SHARED(int2, memory);
  const Tables tables = tables_at(s, memory, row_slots, column_slots);
  const int k = blockIdx.x;
  const Place place = place_of(s, boxes, levels, k);
  if (place.level >= 0) fill_tables(s, tables, boxes, k, place.level, 1);
  __syncthreads();

  const int level = max(place.level, 0), bins = s.bins_y * s.bins_x;
  const long long plane = static_cast<long long>(s.height[level]) * s.width[level];
  const T* const map = static_cast<const T*>(maps.level[level]) + place.image * plane * channels;
  T* const out = output + static_cast<long long>(k) * bins * channels;
  const int a_slice = (channels + gridDim.y - 1) / gridDim.y, first = blockIdx.y * a_slice;
  const int items = (min(first + a_slice, channels) - first) * bins;
  for (int item = threadIdx.x; item < items; item += kThreads) {
    const int bin = item % bins, channel = first + item / bins;
    float sum[1] = {};
    if (place.level >= 0) pool(tables, bin / s.bins_x, bin % s.bins_x, map + channel * plane, sum);
    out[static_cast<long long>(channel) * bins + bin] = from_float<T>(sum[0]);
  }
}
