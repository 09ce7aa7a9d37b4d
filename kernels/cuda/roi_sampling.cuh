// Where RoI Align samples: the level of a box, and the pixels and weights of its bins along one axis.
//
// Idea: sampling is separable, so a box needs two short lists, of rows and of columns, for all of its channels; samples
// that share a pixel are merged. Positions are worked out in float64 and adaptive samples are counted in float32, with
// the operations of kernels/cpu/roi_sampling.cpp in their order: the lists have the bits of the CPU's. Products that a
// sum takes are rounded by themselves (__dmul_rn), so contraction may stay on for the kernels that include this.
//
// Not yet run on hardware.
#pragma once
#include "device.cuh"

namespace gpu {

constexpr int kMostLevels = 8;

// How the boxes of a call lie on the maps. cvperf/backends/cuda/roi_sampling.py packs it.
struct alignas(64) Sampling {
  double scale;           // map pixels per unit of the boxes on the first level; it halves from one to the next
  float canonical_scale;  // a box of this side, in units of the image,
  float canonical_level;  // belongs on this level,
  int first_level;        // of which the first map is this one
  int levels;             // maps
  int images;             // of every map
  int ratio;              // samples a bin and axis; 0 or less: ceil(box size / bins) of each box
  int aligned;            // shifted by half a pixel, and boxes may be smaller than a pixel
  int bins_y, bins_x;     // rows and columns of bins
  int height[kMostLevels], width[kMostLevels];
};

// The maps of a pyramid: [images, height, width, channels], or planes [images, channels, height, width].
struct alignas(64) Maps {
  void* level[kMostLevels];
};

// Level by equation 1 of Lin et al., "Feature Pyramid Networks", CVPR 2017, with the operations of pyramid_levels in
// cvperf/backends/pyramid.py; -1 for a box of negative area or with a NaN.
__device__ __forceinline__ int level_of(const Sampling& s, const float* box) {
  const float side = sqrtf(__fmul_rn(box[3] - box[1], box[4] - box[2]));
  const float level = floorf(s.canonical_level + log2f(side / s.canonical_scale) + 1e-6f);
  if (level != level) return -1;
  const float first = static_cast<float>(s.first_level), last = static_cast<float>(s.first_level + s.levels - 1);
  return static_cast<int>(fminf(fmaxf(level, first), last)) - s.first_level;
}

struct Place {
  int level;  // -1: the box reads nothing
  int image;
};

// `levels` [boxes] if they were chosen before, else null.
__device__ __forceinline__ Place place_of(const Sampling& s, const float* boxes, const int* levels, int k) {
  const float* const box = boxes + 5ll * k;
  const float image = box[0];
  Place place{0, 0};
  if (levels) {
    place.level = levels[k];
  } else if (s.levels > 1) {
    place.level = level_of(s, box);
  }
  if (image >= 0.0f && image < static_cast<float>(s.images) && floorf(image) == image) {
    place.image = static_cast<int>(image);
  } else {
    place.level = -1;
  }
  return place;
}

// One axis of one box: the samples of bin p lie at start + p * bin + (i + 0.5) * bin / grid.
struct Axis {
  double start, bin;
  int grid;    // samples a bin; 0: the box is empty and its bins are zero
  int pixels;  // of the map
};

__device__ __forceinline__ Axis axis_of(const Sampling& s, float first, float last, int level, int bins, int pixels) {
  const double scale = s.scale * static_cast<double>(__int_as_float((127 - level) << 23));  // exact: 2^-level
  const double offset = s.aligned ? 0.5 : 0.0;
  Axis axis;
  axis.pixels = pixels;
  axis.start = __dmul_rn(static_cast<double>(first), scale) - offset;
  double size = (__dmul_rn(static_cast<double>(last), scale) - offset) - axis.start;
  if (!s.aligned && size < 1.0) size = 1.0;  // a NaN stays one
  axis.bin = size / static_cast<double>(bins);
  axis.grid = s.ratio;
  if (s.ratio <= 0) {
    const float narrow = static_cast<float>(scale), shift = static_cast<float>(offset);
    float extent = (__fmul_rn(last, narrow) - shift) - (__fmul_rn(first, narrow) - shift);
    if (!s.aligned && extent < 1.0f) extent = 1.0f;
    const double count = ceil(static_cast<double>(extent / static_cast<float>(bins)));
    axis.grid = count >= 1.0 ? static_cast<int>(count < 2147483647.0 ? count : 2147483647.0) : 0;
  }
  return axis;
}

// Rows (axis 0) or columns (axis 1) of box k.
__device__ __forceinline__ Axis axis_of(const Sampling& s, const float* boxes, int k, int level, int axis) {
  const float* const box = boxes + 5ll * k;
  if (axis == 0) return axis_of(s, box[2], box[4], level, s.bins_y, s.height[level]);
  return axis_of(s, box[1], box[3], level, s.bins_x, s.width[level]);
}

__device__ __forceinline__ double origin_of(const Axis& axis, int p) {
  return axis.start + __dmul_rn(static_cast<double>(p), axis.bin);
}

// Pixel below a position, within [0, most]; 0 for NaN.
__device__ __forceinline__ int clamped(double position, int most) {
  if (!(position > 0.0)) return 0;
  return position < static_cast<double>(most) ? static_cast<int>(position) : most;
}

// [x, y) of the samples of a bin that can lie in [-1, pixels]; one more on each side covers rounding.
__device__ __forceinline__ int2 candidates(const Axis& axis, double origin) {
  const double limit = static_cast<double>(axis.grid), step = axis.bin / limit, end = static_cast<double>(axis.pixels);
  if (axis.grid <= 0 || axis.pixels == 0 || origin - origin != 0.0 || step - step != 0.0) return make_int2(0, 0);
  if (origin >= -1.0 && origin <= end && fabs(step) * limit < 1.0) return make_int2(0, axis.grid);  // also no step
  if (step == 0.0) return make_int2(0, 0);
  const double a = (-1.0 - origin) / step - 0.5, b = (end - origin) / step - 0.5;
  const double first = floor(a < b ? a : b) - 1.0, last = ceil(a < b ? b : a) + 2.0;
  return make_int2(clamped(first, axis.grid), clamped(last, axis.grid));
}

// Calls write(pixel, weight) for each pixel that bin p reads, in ascending order. Weights include 1 / grid. Pixels that
// are read with weight zero are among them: zero times infinity is NaN here as in torchvision.
template <class Write>
__device__ __forceinline__ void each_tap(const Axis& axis, int p, const Write& write) {
  const double origin = origin_of(axis, p), grid = static_cast<double>(axis.grid), share = 1.0 / grid;
  const int2 range = candidates(axis, origin);
  // A sample lies between two pixels, and so at most two are open: `pixel` and, if `reads_next`, the one above it.
  int pixel = -2;
  double weight = 0.0, next_weight = 0.0;
  bool reads_next = false;
  for (int n = range.x; n < range.y; ++n) {
    const int i = axis.bin < 0.0 ? range.x + (range.y - 1 - n) : n;  // a box that is turned round
    double position = origin + (static_cast<double>(i) + 0.5) * axis.bin / grid;
    if (!(position >= -1.0 && position <= static_cast<double>(axis.pixels))) continue;
    position = position > 0.0 ? position : 0.0;
    const int below = min(static_cast<int>(position), axis.pixels - 1);
    const bool last = below == axis.pixels - 1;
    const double fraction = last ? 0.0 : position - static_cast<double>(below);
    if (below != pixel) {
      const bool adjacent = below == pixel + 1;
      if (pixel >= 0) write(pixel, static_cast<float>(weight * share));
      if (reads_next && !adjacent) write(pixel + 1, static_cast<float>(next_weight * share));
      weight = adjacent ? next_weight : 0.0;
      next_weight = 0.0;
      pixel = below;
      reads_next = false;
    }
    weight += 1.0 - fraction;
    next_weight += fraction;
    reads_next |= !last;
  }
  if (pixel >= 0) write(pixel, static_cast<float>(weight * share));
  if (reads_next) write(pixel + 1, static_cast<float>(next_weight * share));
}

}  // namespace gpu
