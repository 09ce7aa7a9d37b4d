// Masks resized into their boxes and pasted into images of zeros, with the threshold in the pass.
//
// Idea: a thread writes 16 bytes of one mask's image, which begin at a multiple of 16 whatever the width. Most touch no
// box: they store zeros and end. The others compute each pixel from the four mask values around it, which lie in L1 (a
// mask is 3 KB). What is read is nothing beside what is written: 100 masks of 800 x 1333 as bytes, 107 MB, 36 us at an
// H100's 3.0 TB/s; 6.7 million threads of about 70 instructions: 15 M of a warp, 17 us beside it.
// The box is cut to whole pixels by torchvision's steps, each rounded by itself: launched with fused=False, or a box
// may end one pixel off.
//
// Not yet run on hardware.
#include "device.cuh"

namespace gpu {

struct Span {
  int first, length;  // pixels of a box along an axis; no length: it is nowhere
};

template <class B>
__device__ __forceinline__ Span span_of(B low, B high, B grow) {
  const B half = (high - low) * B(0.5) * grow, middle = (high + low) * B(0.5);
  const B first = middle - half, last = middle + half, farthest = B(1 << 30);
  if (!(first > -farthest && first < farthest && last > -farthest && last < farthest)) return {0, 0};
  const int begin = static_cast<int>(first), end = static_cast<int>(last);
  return {begin, end >= begin ? end - begin + 1 : 0};
}

struct Tap {
  int at;               // and at + 1,
  float first, second;  // with these weights
};

// Where a pixel of a box lies between two of the `source` pixels: the rule of torch's interpolate.
__device__ __forceinline__ Tap tap_of(int pixel, int size, int source) {
  if (size == source) return {pixel, 1.0f, 0.0f};
  const float ratio = static_cast<float>(source) / static_cast<float>(size);
  const float position = fmaxf(ratio * (static_cast<float>(pixel) + 0.5f) - 0.5f, 0.0f);
  const int at = min(static_cast<int>(position), source - 1);
  const float second = fminf(position - static_cast<float>(at), 1.0f);
  return {at, 1.0f - second, second};
}

// The padded mask; past its end, its end.
template <class T>
__device__ __forceinline__ float source_value(const T* mask, int row, int column, int side, int padding) {
  const int last = side + 2 * padding - 1, y = min(row, last) - padding, x = min(column, last) - padding;
  return y >= 0 && y < side && x >= 0 && x < side ? to_float(mask[y * side + x]) : 0.0f;
}

template <class Out>
__device__ __forceinline__ Out pasted(float value, float) {
  return from_float<Out>(value);
}
template <>
__device__ __forceinline__ unsigned char pasted<unsigned char>(float value, float threshold) {
  return value > threshold;
}

}  // namespace gpu

// T of the masks, B of the boxes (float or double), Out: T, or unsigned char for what is above the threshold.
// Block (mask * chunks + chunk of its image), a chunk being 256 * 16 bytes; `chunks` covers an image and 16 bytes more.
template <class T, class B, class Out>
__global__ void __launch_bounds__(256, 1)
    paste_masks(const T* __restrict__ masks,  // [count, side, side]
                const B* __restrict__ boxes,  // [count, 4]: x1, y1, x2, y2
                Out* __restrict__ output,     // [count, height, width]
                float threshold, int side, int padding, int height, int width, int chunks) {
  using namespace gpu;
  constexpr int kVector = 16 / sizeof(Out);
  const int k = blockIdx.x / chunks, plane = height * width;
  const long long image = static_cast<long long>(k) * plane;
  const int chunk = blockIdx.x - k * chunks,
            before = static_cast<int>(image % kVector);  // of the 16 bytes it begins in
  const long long start = (static_cast<long long>(chunk) * 256 + threadIdx.x) * kVector - before;
  if (start >= plane) return;
  const int first = start < 0 ? 0 : static_cast<int>(start);
  const int end = static_cast<int>(start + kVector < plane ? start + kVector : plane);
  const B* const box = boxes + 4ll * k;
  const B grow = static_cast<B>(side + 2 * padding) / static_cast<B>(side);
  const Span columns = span_of(box[0], box[2], grow), rows = span_of(box[1], box[3], grow);
  const T* const mask = masks + static_cast<long long>(k) * side * side;

  alignas(16) Out values[kVector] = {};
  int y = first / width, x = first - y * width;
  const bool one_row = x + (end - first) <= width;
  const bool touched = y - rows.first < rows.length && (one_row ? y >= rows.first : rows.length > 0) &&
                       (!one_row || (x - columns.first < columns.length && x + (end - first) > columns.first));
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    if (!touched || start + i < first || start + i >= end) continue;
    if (y >= rows.first && y - rows.first < rows.length && x >= columns.first && x - columns.first < columns.length) {
      const Tap row = tap_of(y - rows.first, rows.length, side + 2 * padding);
      const Tap column = tap_of(x - columns.first, columns.length, side + 2 * padding);
      const float upper = source_value(mask, row.at, column.at, side, padding) * column.first +
                          source_value(mask, row.at, column.at + 1, side, padding) * column.second;
      const float lower = source_value(mask, row.at + 1, column.at, side, padding) * column.first +
                          source_value(mask, row.at + 1, column.at + 1, side, padding) * column.second;
      values[i] = pasted<Out>(upper * row.first + lower * row.second, threshold);
    }
    if (++x == width) {
      x = 0;
      ++y;
    }
  }
  Out* const to = output + image + start;
  if (end - start == kVector && first == start) {
    store16(to, *reinterpret_cast<const uint4*>(values));
    return;
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    if (start + i >= first && start + i < end) to[i] = values[i];
  }
}
