// RoI max pooling, forward and gradient of the map.
//
// Idea, forward: as RoI Align (roi_align.cu), a block has one box and a slice of its channels; edges of its bins are
// made once, in shared memory, with torchvision's float32 operations. 8 lanes take a line of 128 bytes of a pixel; each
// value walks its bin in row-major order and keeps the first of its largest pixels, in registers.
//
// Backward: no atomics. A bin's gradient goes to one pixel of each channel, so a thread owns a channel of a run of 64
// pixels, in shared memory, and walks the bins that touch the run, box after box (roi_hits.cuh): whether a position
// lies in the run is one comparison, and nobody else adds to the thread's sums.
//
// Predicted, H100, 1,000 boxes of 28 x 28 pixels, 256 channels, 7 x 7 bins, float16: forward 25 pixels a bin x 40
// instructions a vector of 8 channels: 49 M of a warp, 73 us at 80 % of the issue rate. Backward: a box touches 40
// runs, with 8 bins in each of 12 instructions, and 30 for the box: 40 M, 73 us at 65 %. Source: Girshick, "Fast
// R-CNN", ICCV 2015.
//
// Not yet run on hardware.
#include "roi_hits.cuh"
#include "roi_sampling.cuh"
#include "roi_vector.cuh"

namespace gpu {

constexpr int kLanes = 8;       // that share a pixel
constexpr int kBinsATime = 32;  // of a block
constexpr int kThreads = kLanes * kBinsATime;
constexpr int kInFlight = 4;                        // pixels of a row
constexpr float kLowest = -3.4028234663852886e38f;  // where torchvision starts, whatever the dtype
constexpr int kRun = 64;                            // pixels, in the order of their plane,
constexpr int kRunThreads = 128;                    // and channels of a block of the backward

// The nearest whole number, halves away from zero, within int32.
__device__ __forceinline__ long long whole(float x) {
  const double size = fabs(static_cast<double>(x));
  const double rounded = floor((size < 2147483647.0 ? size : 2147483647.0) + 0.5);
  return static_cast<long long>(x < 0.0f ? -rounded : rounded);
}

// [first, last) pixel of bin p of one axis of a box; none if a corner is NaN.
__device__ __forceinline__ int2 pool_range(const Sampling& s, float from, float to, int p, int bins, int pixels) {
  const float scale = static_cast<float>(s.scale), first = __fmul_rn(from, scale), last = __fmul_rn(to, scale);
  if (first != first || last != last) return make_int2(0, 0);
  const long long start = whole(first), extent = whole(last) - start + 1, most = pixels, none = 0;
  const float size = static_cast<float>(extent > 1 ? extent : 1) / static_cast<float>(bins);
  const long long low = static_cast<long long>(floorf(__fmul_rn(static_cast<float>(p), size))) + start;
  const long long high = static_cast<long long>(ceilf(__fmul_rn(static_cast<float>(p + 1), size))) + start;
  return make_int2(static_cast<int>(min(max(low, none), most)), static_cast<int>(min(max(high, none), most)));
}

// The rows of bins (p < bins_y), then the columns.
__device__ __forceinline__ int2 pool_range(const Sampling& s, const float* boxes, int k, int p) {
  const float* const box = boxes + 5ll * k;
  if (p < s.bins_y) return pool_range(s, box[2], box[4], p, s.bins_y, s.height[0]);
  return pool_range(s, box[1], box[3], p - s.bins_y, s.bins_x, s.width[0]);
}

template <class T>
__device__ __forceinline__ void values_of(const Vector<T, 8>& vector, float (&values)[8]) {
  const unsigned words[4] = {vector.bits.x, vector.bits.y, vector.bits.z, vector.bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 two = unpack<T>(words[i]);
    values[2 * i] = two.x;
    values[2 * i + 1] = two.y;
  }
}
__device__ __forceinline__ void values_of(const Vector<float, 4>& vector, float (&values)[4]) {
  values[0] = __uint_as_float(vector.bits.x);
  values[1] = __uint_as_float(vector.bits.y);
  values[2] = __uint_as_float(vector.bits.z);
  values[3] = __uint_as_float(vector.bits.w);
}
template <class T>
__device__ __forceinline__ void values_of(const Vector<T, 1>& vector, float (&values)[1]) {
  values[0] = to_float(vector.value);
}

// The first of the largest pixels of a bin, and its place in the plane; `pitch` vectors lie between pixels.
template <class T, int VEC>
__device__ __forceinline__ void largest(const Vector<T, VEC>* map, unsigned pitch, int width, int2 rows, int2 columns,
                                        float (&best)[VEC], int (&where)[VEC]) {
  for (int y = rows.x; y < rows.y; ++y) {
    for (int x = columns.x; x < columns.y; x += kInFlight) {
      Vector<T, VEC> vectors[kInFlight] = {};
#pragma unroll
      for (int u = 0; u < kInFlight; ++u) {
        if (x + u < columns.y) vectors[u] = map[static_cast<unsigned>(y * width + x + u) * pitch];
      }
#pragma unroll
      for (int u = 0; u < kInFlight; ++u) {
        if (x + u >= columns.y) break;
        float values[VEC];
        values_of(vectors[u], values);
#pragma unroll
        for (int v = 0; v < VEC; ++v) {
          if (values[v] > best[v]) {
            best[v] = values[v];
            where[v] = y * width + x + u;
          }
        }
      }
    }
  }
}

}  // namespace gpu

// A map in channels last. Block (box, slice of the channels). VEC channels a thread, channels % VEC == 0. Dynamic
// shared memory: int2 [bins_y + bins_x].
template <class T, int VEC>
__global__ void __launch_bounds__(gpu::kThreads)
    roi_pool(const __grid_constant__ gpu::Sampling s, const T* __restrict__ map, const float* __restrict__ boxes,
             T* __restrict__ output,    // [boxes, bins, channels]
             int* __restrict__ argmax,  // as output: the pixel's place in its plane; -1 if there is none
             int channels) {
  using namespace gpu;
  constexpr int kGroup = kLanes * VEC;  // channels that are pooled at a time
  DYNAMIC_SHARED(int2, ranges);
  const int k = blockIdx.x, bins = s.bins_y * s.bins_x;
  const Place place = place_of(s, boxes, nullptr, k);
  for (int p = threadIdx.x; p < s.bins_y + s.bins_x; p += kThreads) {
    ranges[p] = place.level < 0 ? make_int2(0, 0) : pool_range(s, boxes, k, p);
  }
  __syncthreads();

  const long long plane = static_cast<long long>(s.height[0]) * s.width[0];
  const T* const image = map + place.image * plane * channels;
  const int groups = (channels + kGroup - 1) / kGroup, a_slice = (groups + gridDim.y - 1) / gridDim.y;
  const int first_group = blockIdx.y * a_slice, items = (min(first_group + a_slice, groups) - first_group) * bins;
  const int slot = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  for (int base = 0; base < items; base += kBinsATime) {  // an item: a bin of a group
    const int item = base + slot, bin = item % bins;
    const int channel = (first_group + item / bins) * kGroup + lane * VEC;
    if (item >= items || channel >= channels) continue;
    const int2 rows = ranges[bin / s.bins_x], columns = ranges[s.bins_y + bin % s.bins_x];
    float best[VEC];
    int where[VEC];
#pragma unroll
    for (int v = 0; v < VEC; ++v) {
      best[v] = rows.y > rows.x && columns.y > columns.x ? kLowest : 0.0f;
      where[v] = -1;
    }
    const auto* const vectors = reinterpret_cast<const Vector<T, VEC>*>(image + channel);
    largest<T, VEC>(vectors, channels / VEC, s.width[0], rows, columns, best, where);
    const long long at = (static_cast<long long>(k) * bins + bin) * channels + channel;
    Vector<T, VEC>::store(output + at, best);
#pragma unroll
    for (int v = 0; v < VEC; ++v) argmax[at + v] = where[v];
  }
}

// Edges of all bins for the backward. A thread a box and bin of an axis.
__global__ void __launch_bounds__(256)
    roi_pool_bins(const __grid_constant__ gpu::Sampling s, const float* __restrict__ boxes,
                  int2* __restrict__ edges,  // [boxes, bins_y + bins_x]: of pool_range
                  int* __restrict__ places,  // [boxes]: image; -1: the box reads nothing
                  int count) {
  const int each = s.bins_y + s.bins_x;
  const long long index = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= static_cast<long long>(count) * each) return;
  const int k = static_cast<int>(index / each), p = static_cast<int>(index % each);
  const gpu::Place place = gpu::place_of(s, boxes, nullptr, k);
  if (p == 0) places[k] = place.level < 0 ? -1 : place.image;
  edges[index] = gpu::pool_range(s, boxes, k, p);
}

namespace gpu {

// [first, last) of the bins that have a pixel in [low, high).
__device__ __forceinline__ int2 bins_within(const int2* edges, int bins, int low, int high) {
  int2 found = make_int2(0, 0);
  for (int p = 0; p < bins; ++p) {
    const int2 edge = edges[p];
    if (edge.x >= high || edge.y <= low || edge.x == edge.y) continue;
    if (found.y == 0) found.x = p;
    found.y = p + 1;
  }
  return found;
}

}  // namespace gpu

// Block (image * runs of its pixels, slice of kRunThreads channels).
template <class T>
__global__ void __launch_bounds__(gpu::kRunThreads)
    roi_pool_backward(const __grid_constant__ gpu::Sampling s,
                      const T* __restrict__ grad,      // [boxes, bins_y, bins_x, channels]
                      const int* __restrict__ argmax,  // as grad
                      const int2* __restrict__ edges, const int* __restrict__ places,  // of roi_pool_bins
                      T* __restrict__ output, int boxes, int channels,
                      int channels_last) {  // how the output lies
  using namespace gpu;
  SHARED(float, sums, [kRun][kRunThreads + 1]);
  SHARED(Hit, hits, [kRunThreads]);
  SHARED(int, hits_of_warp, [8]);
  const int width = s.width[0], plane = s.height[0] * width, runs = (plane + kRun - 1) / kRun;
  const int image = blockIdx.x / runs, first = blockIdx.x % runs * kRun, count = min(kRun, plane - first);
  const int channel = blockIdx.y * kRunThreads + threadIdx.x;
  const int top = first / width, bottom = (first + count - 1) / width;  // rows of the run
  const int left = top == bottom ? first - top * width : 0, right = top == bottom ? left + count : width;
  for (int i = 0; i < kRun; ++i) sums[i][threadIdx.x] = 0.0f;  // of this thread alone until they are stored

  for (int base = 0; base < boxes; base += kRunThreads) {
    const int k = base + threadIdx.x;
    int2 rows = make_int2(0, 0), columns = rows;
    if (k < boxes && places[k] == image) {
      const int2* const its_edges = edges + static_cast<long long>(k) * (s.bins_y + s.bins_x);
      rows = bins_within(its_edges, s.bins_y, top, bottom + 1);
      if (rows.y > 0) columns = bins_within(its_edges + s.bins_y, s.bins_x, left, right);
    }
    const bool hit = rows.y > 0 && columns.y > 0;
    const Slot slot = slot_of(hit, hits_of_warp);
    if (hit) {
      hits[slot.place] = {k, static_cast<short>(rows.x), static_cast<short>(rows.y), static_cast<short>(columns.x),
                          static_cast<short>(columns.y)};
    }
    __syncthreads();
    if (channel >= channels) continue;
    for (int n = 0; n < slot.total; ++n) {
      const Hit one = hits[n];
      for (int i = one.first_row; i < one.last_row; ++i) {
        const long long bin = (static_cast<long long>(one.box) * s.bins_y + i) * s.bins_x;
#pragma unroll 4
        for (int j = one.first_column; j < one.last_column; ++j) {
          const long long at = (bin + j) * channels + channel;
          const unsigned place = static_cast<unsigned>(argmax[at] - first);
          if (place < static_cast<unsigned>(count)) sums[place][threadIdx.x] += to_float(grad[at]);
        }
      }
    }
  }

  if (channels_last) {
    if (channel >= channels) return;
    T* const its_output = output + (static_cast<long long>(image) * plane + first) * channels + channel;
    for (int i = 0; i < count; ++i)
      its_output[static_cast<long long>(i) * channels] = from_float<T>(sums[i][threadIdx.x]);
    return;
  }
  __syncthreads();
  for (int each = threadIdx.x; each < kRun * kRunThreads; each += kRunThreads) {
    const int i = each % kRun, its_channel = blockIdx.y * kRunThreads + each / kRun;
    if (i >= count || its_channel >= channels) continue;
    output[(static_cast<long long>(image) * channels + its_channel) * plane + first + i] =
        from_float<T>(sums[i][each / kRun]);
  }
}
