// Where the bins of every box read the map: shared by RoI Align's forward and backward.
//
// Bilinear sampling on a regular grid is separable: the weight of pixel (y, x) in bin (i, j) is a row weight
// wy(i, y) times a column weight wx(j, x). So a box needs two short lists, made once and shared by all
// channels, and sampling points that share a row or a column are merged: with 2 x 2 samples a bin reads about
// 9 pixels instead of 16, with a fine adaptive grid about a quarter of the reads of one point after another.
//
// Built by one translation unit that is compiled without an instruction set and without contraction: the
// number of samples comes from the arithmetic of the boxes' own type (as in torchvision, so that ceil()
// agrees), positions and weights from double.
//
// A sample whose position lies outside [-1, size] or is not a number (a NaN or infinite coordinate) adds
// nothing, though it still counts in the average. The loop runs only over samples that can lie inside, so a
// box of any size costs no more than one as large as the map.
#pragma once
#include <cstdint>

namespace cvperf {

template <class T>  // float or double: the type that the kernel computes in
struct RoiTap {
  std::int32_t index;  // by bin: the pixel that is read; by pixel: the bin that reads it
  T weight;            // includes 1 / number of samples along this axis
};

// Group g holds taps[begin[g]] .. taps[begin[g + 1] - 1]. Keys ascend.
template <class T>
struct RoiAxis {
  std::int32_t groups;
  std::int32_t low, high;     // first and one past the last pixel touched; equal if none is
  const std::int32_t* key;    // by bin: the bin, 0 .. pooled - 1; by pixel: each pixel that some bin reads
  const std::int32_t* begin;  // [groups + 1]
  const RoiTap<T>* taps;
};

template <class T>
struct RoiBox {
  std::int64_t map, image;
  RoiAxis<T> y, x;
};

// One level of a feature pyramid.
struct RoiMap {
  std::int64_t height, width;
  double spatial_scale;  // map pixels per unit of the boxes
};

struct RoiGeometry {
  const void* boxes;  // [count, 5]: image, x1, y1, x2, y2; float64 if boxes_f64, else float32
  bool boxes_f64;
  std::int64_t count;
  const RoiMap* maps;
  std::int64_t num_maps;
  const std::int32_t* levels;                // [count]: each box's map; -1: it reads nothing. Null: all read map 0
  std::int64_t images;                       // of every map
  std::int64_t pooled_height, pooled_width;  // bins
  std::int64_t sampling_ratio;               // samples per bin and axis; <= 0: ceil(box size / bins)
  bool aligned;                              // shift by half a pixel, and let boxes be smaller than a pixel
  int num_threads;
};

enum class RoiOrder { by_bin, by_pixel };

template <class T>
struct RoiSampling {
  RoiSampling(const RoiGeometry& geometry, RoiOrder order);
  ~RoiSampling();
  RoiSampling(const RoiSampling&) = delete;
  RoiSampling& operator=(const RoiSampling&) = delete;

  const RoiBox<T>* boxes;  // [count]
  // [count]: boxes grouped by map and image, tile by tile from top to bottom and then in their order, so that a
  // box finds in cache what its neighbours have touched.
  const std::int64_t* sorted;
  const std::int64_t* begin;  // [num_maps * images + 1]: where the boxes of map * images + image start in `sorted`

 private:
  void* storage_;
};

}  // namespace cvperf
