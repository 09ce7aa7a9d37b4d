// What the kernels of NMS share: the test of two boxes, the keys that boxes are ordered by, and the memory of one
// image.
//
// Exactness. The answer is the CPU kernel's (kernels/cpu/nms_boxes.hpp), index for index: a box goes if `IoU > t` for
// a kept box of a higher rank, with t the largest float32 that is not above the threshold, and IoU computed in float32
// operation by operation, the division exactly rounded (compiled without fused multiply-adds, which would round less
// often than the CPU). Two screens spare most divisions. Let s = t / (1 + t), u = 2^-24, and let A be the sum of the
// two areas as rounded; IoU > t is inter > s A but for roundings, which change either side by a few u. Each box knows
// `below`, its area times s (1 - 2^-20).
// - inter <= below_i + below_j: inter < s A (1 - 2^-21) whatever was rounded, and IoU <= t.
// - inter > (below_i + below_j) (1 + 2^-17): inter > s A (1 + 2^-18), and IoU > t. A `below` under twice the least
//   normal number is 0 instead, so the sum must be 2^21 times that for this to hold; and A must be finite.
// What lies between is divided; where t < 1e-30, s is 0 and all that meets is divided.
//
// A box is inert where one of its sides is not above 0 or its area is 0, infinite or NaN. At t >= 0 it neither
// suppresses nor is suppressed: its intersection with any box is 0 (a side of it is at most the box's own, subtraction
// and product being monotone), or the sum of areas is infinite or NaN, so that IoU is 0 or NaN. Its `below` is
// infinite. Below t = 0, where an IoU of 0 suppresses, every `below` is -infinite, and all is divided.
#pragma once
#include "device.cuh"

namespace gpu {

constexpr unsigned EVERY_LANE = 0xFFFFFFFFu;
constexpr int MOST_CHUNK = 4096;                         // boxes
constexpr float LEAST_SCREEN = 2.3509887016445750e-38f;  // twice the least normal number
constexpr float LEAST_CERTAIN = 5e-32f;                  // 2^21 times that
constexpr float MOST_AREA = 1e38f;                       // of two boxes: the sum of their areas is finite
constexpr float CERTAIN = 1.0f + 1.0f / (1 << 17);

__device__ __forceinline__ float infinity() { return __int_as_float(0x7F800000); }
__device__ __forceinline__ float not_a_number() { return __int_as_float(0x7FFFFFFF); }

struct Threshold {
  float value;  // t
  float share;  // s (1 - 2^-20); infinite where t >= 1, which no IoU exceeds

  // Whether boxes that do not meet may be left out.
  __device__ __forceinline__ bool prunes() const { return value >= 0.0f; }
};

struct Box {
  float4 corners;  // x1, y1, x2, y2
  float below;

  __device__ __forceinline__ float area() const { return (corners.z - corners.x) * (corners.w - corners.y); }
  __device__ __forceinline__ bool inert() const { return below == infinity(); }
};

__device__ __forceinline__ Box no_box() { return {make_float4(0.0f, 0.0f, 0.0f, 0.0f), infinity()}; }

__device__ __forceinline__ Box box_of(float4 corners, Threshold threshold) {
  Box box{corners, not_a_number()};
  if (!threshold.prunes()) return box;
  const float area = box.area();
  const bool sound = corners.z > corners.x && corners.w > corners.y && area > 0.0f && area < infinity();
  const float below = area * threshold.share;
  box.below = !sound ? infinity() : below < LEAST_SCREEN ? 0.0f : below;
  return box;
}

// The box at `p`, which may lie anywhere: it is an argument of the user's.
template <class T>
__device__ __forceinline__ Box load_box(const T* p, Threshold threshold) {
  return box_of(make_float4(to_float(p[0]), to_float(p[1]), to_float(p[2]), to_float(p[3])), threshold);
}

// False: neither suppresses the other. NaN must be looked at: below t = 0, or where 0 times infinity is the product.
__device__ __forceinline__ bool may_suppress(const Box& a, const Box& b) {
  const float width =
      fmaxf(fminf(a.corners.z, b.corners.z) - fmaxf(a.corners.x, b.corners.x), 0.0f);  // two negative sides would pass
  const float height = fminf(a.corners.w, b.corners.w) - fmaxf(a.corners.y, b.corners.y);
  return !(width * height <= a.below + b.below);
}

// The truth, if may_suppress.
__device__ __forceinline__ bool suppresses(const Box& a, const Box& b, Threshold threshold) {
  const float width = fmaxf(fminf(a.corners.z, b.corners.z) - fmaxf(a.corners.x, b.corners.x), 0.0f);
  const float height = fmaxf(fminf(a.corners.w, b.corners.w) - fmaxf(a.corners.y, b.corners.y), 0.0f);
  const float inter = width * height, below = a.below + b.below;
  if (below >= LEAST_CERTAIN && below <= MOST_AREA * threshold.share && inter > below * CERTAIN) return true;
  return inter / (a.area() + b.area() - inter) > threshold.value;
}

// Ascends with the score: NaN highest whatever its sign, -0 equal to 0.
__device__ __forceinline__ int score_key(float score) {
  const int bits = __float_as_int(score), magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return 0x7FFFFFFF;
  return bits < 0 ? -magnitude : magnitude;
}

// 13 bits that ascend with x: of each octave from 2^-8 to 2^24 128 cells. No range of the boxes need be known.
__device__ __forceinline__ unsigned cell_of(float x) {
  const int bits = __float_as_int(x);
  const int cell = min(max(((bits & 0x7FFFFFFF) >> 16) - (119 << 7), 0), 4095);
  return bits < 0 ? 4095 - cell : 4096 + cell;
}

// Bit i becomes bit 2 i.
__device__ __forceinline__ unsigned spread(unsigned x) {
  x = (x | x << 8) & 0x00FF00FFu;
  x = (x | x << 4) & 0x0F0F0F0Fu;
  x = (x | x << 2) & 0x33333333u;
  return (x | x << 1) & 0x55555555u;
}

// Boxes of keys that are near lie near each other and are of like size: two octaves of the longer side, and within
// them Morton's order of the centres. It decides which boxes share a tile, nothing else. Inert boxes have 0;
// no key is negative.
__device__ __forceinline__ int place_key(const Box& box) {
  if (box.inert()) return 0;
  const float4 c = box.corners;
  const int octave = (__float_as_int(fmaxf(c.z - c.x, c.w - c.y)) >> 23) - 119;
  const unsigned level = min(max(octave, 0), 31) >> 1;
  return static_cast<int>(level << 26 | spread(cell_of((c.y + c.w) * 0.5f)) << 1 | spread(cell_of((c.x + c.z) * 0.5f)));
}

// One image's memory between the launches. cvperf/backends/cuda/nms.py allocates it: 37 bytes for each box, and the
// chunks' ends. All arrays but the last two have `pitch` entries, by rank.
struct Space {
  float4* corners;
  long long* labels;  // the classes; unused where there is one
  float* below;
  int* index;              // the box's number in the user's order
  int* kept;               // [limit]: ranks of the boxes that stay, in order
  unsigned char* removed;  // 1: a box that stays, of an earlier chunk, suppresses it
  int* arrivals;           // [1]: blocks of a launch that have ended
  int* ends;               // [chunks + 1]: chunk k keeps kept[ends[k]] up to kept[ends[k + 1]]

  __device__ __forceinline__ Space(unsigned char* memory, int stride, int pitch, int image) {
    unsigned char* const at = memory + static_cast<long long>(image) * stride;
    corners = reinterpret_cast<float4*>(at);
    labels = reinterpret_cast<long long*>(at + 16 * pitch);
    below = reinterpret_cast<float*>(at + 24 * pitch);
    index = reinterpret_cast<int*>(at + 28 * pitch);
    kept = reinterpret_cast<int*>(at + 32 * pitch);
    removed = at + 36 * pitch;
    arrivals = reinterpret_cast<int*>(at + 37 * pitch);
    ends = arrivals + 1;
  }

  __device__ __forceinline__ Box box(int rank) const { return {corners[rank], below[rank]}; }

  // Box `number` of the user's is the one of `rank`.
  __device__ __forceinline__ void place(int rank, int number, const Box& box) const {
    corners[rank] = box.corners;
    below[rank] = box.below;
    index[rank] = number;
    removed[rank] = 0;
  }
  __device__ __forceinline__ void start() const { arrivals[0] = ends[0] = 0; }
};

}  // namespace gpu
