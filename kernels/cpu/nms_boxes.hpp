// Kept boxes in vector-sized chunks, and the test of one box against a chunk. Parts of nms.cpp.
#pragma once
#include "buffer.hpp"
#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

// Numbers in the type they are computed in: the caller's own memory, or a copy of half types.
template <class S>
class Widened {
 public:
  Widened(const S* values, std::int64_t count) : copy_(static_cast<std::size_t>(count)) {
    std::int64_t i = 0;
    for (; i + kLanes<float> <= count; i += kLanes<float>) store(copy_.data() + i, load(values + i));
    for (; i < count; ++i) copy_[i] = to_compute(values[i]);
  }
  const float* data() const { return copy_.data(); }

 private:
  Buffer<float> copy_;
};
template <class T>
class InPlace {
 public:
  InPlace(const T* values, std::int64_t) : values_(values) {}
  const T* data() const { return values_; }

 private:
  const T* values_;
};
template <>
class Widened<float> : public InPlace<float> {
  using InPlace::InPlace;
};
template <>
class Widened<double> : public InPlace<double> {
  using InPlace::InPlace;
};

// One box with what the test needs of it.
template <class T>
struct Box {
  T x1, y1, x2, y2, area, share;
};

// The threshold, ready for the test. With t the largest T that is <= iou_threshold, `iou > iou_threshold` in
// double precision is `iou > t` in T.
template <class T>
struct Threshold {
  T value;
  T share;     // t / (1 + t), a little less
  T smallest;  // the least area that `share` may scale without losing precision to underflow

  // The screen: iou > t <=> inter * (1 + t) > t * (area_i + area_j), so no box whose intersection is below
  // share_i + share_j can be suppressed. The margin 2^-20 covers every rounding; where the product would
  // underflow it becomes 0 and the screen lets more through.
  T share_of(T area) const {
    const T scaled = area * share;
    return scaled >= smallest ? scaled : T(0);
  }
};

template <class T>
constexpr T kLeast = T(1.401298464324817e-45);  // smallest positive values
template <>
constexpr double kLeast<double> = 4.9406564584124654e-324;
template <class T>
constexpr T kLeastNormal = T(1.1754943508222875e-38);
template <>
constexpr double kLeastNormal<double> = 2.2250738585072014e-308;

inline float round_down(double x, float) {
  const float nearest = static_cast<float>(x);
  if (!(static_cast<double>(nearest) > x)) return nearest;
  if (nearest == 0.0f) return -kLeast<float>;
  return float_of(nearest > 0 ? bits_of(nearest) - 1 : bits_of(nearest) + 1);
}
inline double round_down(double x, double) { return x; }

template <class T>
Threshold<T> make_threshold(double iou_threshold) {
  Threshold<T> threshold{round_down(iou_threshold, T()), T(0), 2 * kLeastNormal<T>};
  const T t = threshold.value;
  if (t > T(1e-30)) threshold.share = t / (1 + t) * (1 - T(1) / (1 << 20));
  return threshold;
}

// kLanes<T> boxes: that many x1, then y1, x2, y2 and shares. Unused lanes are NaN: no comparison holds there.
template <class T>
constexpr int kChunk = 5 * kLanes<T>;

template <class T>
CVPERF_INLINE void clear_chunk(T* chunk) {
  for (int part = 0; part < 5; ++part) store(chunk + part * kLanes<T>, broadcast(T(__builtin_nan(""))));
}

template <class T>
CVPERF_INLINE void set_lane(T* chunk, int lane, const Box<T>& box) {
  chunk += lane;
  chunk[0] = box.x1;
  chunk[kLanes<T>] = box.y1;
  chunk[2 * kLanes<T>] = box.x2;
  chunk[3 * kLanes<T>] = box.y2;
  chunk[4 * kLanes<T>] = box.share;
}

// max(v, 0); 0 where v is NaN. GCC would make a comparison and a mask of the operators.
CVPERF_INLINE Vec<float> positive_part(Vec<float> v) {
#if defined(__AVX__) && CVPERF_VECTOR_BYTES == 32
  return (Vec<float>)_mm256_max_ps((__m256)v, _mm256_setzero_ps());
#else
  return max(v, Vec<float>{});
#endif
}
CVPERF_INLINE Vec<double> positive_part(Vec<double> v) { return max(v, Vec<double>{}); }

// v, negative where `sign` is. A logic operation runs beside the others, where max(sign, 0) would wait for them.
template <class V>
CVPERF_INLINE V or_sign(V v, V sign) {
  const V zero{};
  typedef decltype(zero < zero) Bits;
  return (V)((Bits)v | ((Bits)sign & (Bits)(-zero)));
}

// A box against kept boxes.
template <class T>
struct Query {
  using V = Vec<T>;
  V x1, y1, x2, y2, area, share, threshold;

  CVPERF_INLINE Query(const Box<T>& box, const Threshold<T>& t)
      : x1(broadcast(box.x1)),
        y1(broadcast(box.y1)),
        x2(broadcast(box.x2)),
        y2(broadcast(box.y2)),
        area(broadcast(box.area)),
        share(broadcast(box.share > 0 ? box.share : kLeast<T>)),
        threshold(broadcast(t.value)) {}

  // Lanes that may be suppressed by, a bit each: a superset of exact()'s for thresholds >= 0, without the
  // division. Two negative sides must not multiply to a positive area: the product gets the width's sign. The
  // share is never 0, so boxes that do not meet (intersection 0) never pass.
  CVPERF_INLINE unsigned screen(const T* chunk) const {
    const V kept_x1 = load(chunk), kept_y1 = load(chunk + kLanes<T>), kept_x2 = load(chunk + 2 * kLanes<T>),
            kept_y2 = load(chunk + 3 * kLanes<T>), kept_share = load(chunk + 4 * kLanes<T>);
    const V width = min(x2, kept_x2) - max(x1, kept_x1);
    const V height = min(y2, kept_y2) - max(y1, kept_y1);
    return lanes_from(or_sign(width * height, width), kept_share + share);
  }

  // IoU with each box: torchvision's formula, operation by operation.
  CVPERF_INLINE V overlap(const T* chunk) const {
    const V kept_x1 = load(chunk), kept_y1 = load(chunk + kLanes<T>), kept_x2 = load(chunk + 2 * kLanes<T>),
            kept_y2 = load(chunk + 3 * kLanes<T>);
    const V width = positive_part(min(x2, kept_x2) - max(x1, kept_x1));
    const V height = positive_part(min(y2, kept_y2) - max(y1, kept_y1));
    const V inter = width * height;
    const V kept_area = (kept_x2 - kept_x1) * (kept_y2 - kept_y1);
    return inter / (kept_area + area - inter);
  }

  // Lanes that the box is suppressed by.
  CVPERF_INLINE unsigned exact(const T* chunk) const { return lanes_above(overlap(chunk), threshold); }
};

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf
