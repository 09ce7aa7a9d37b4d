// The pixel panel of a planar (NCHW) convolution: for a run of output pixels, the numbers that one tap of one
// channel sees, packed lane by lane. A panel's pixels may lie in several rows of the image; what is copied for a
// tap is the same for every channel, so it's worked out once a panel and replayed.
#pragma once
#include "buffer.hpp"
#include "conv2d_problem.hpp"
#include "gemm_tile.hpp"
#include "shuffle.hpp"

namespace cvperf {
namespace CVPERF_ISA {

// Lanes where the mask is set; the others read as zero, and their memory is not touched.
CVPERF_INLINE Vec<float> load_masked(const float* p, Vec<std::int32_t> mask) {
#if defined(__AVX512F__) && CVPERF_VECTOR_BYTES == 64
  return (Vec<float>)_mm512_maskz_loadu_ps(_mm512_movepi32_mask((__m512i)mask), p);
#elif defined(__AVX2__) && CVPERF_VECTOR_BYTES == 32
  return (Vec<float>)_mm256_maskload_ps(p, (__m256i)mask);
#else
  Vec<float> v{};
  for (int i = 0; i < kLanes<float>; ++i)
    if (mask[i]) v[i] = p[i];
  return v;
#endif
}
CVPERF_INLINE Vec<double> load_masked(const double* p, Vec<std::int64_t> mask) {
  Vec<double> v{};
  for (int i = 0; i < kLanes<double>; ++i)
    if (mask[i]) v[i] = p[i];
  return v;
}

template <class C>
struct MaskOf {
  using type = std::int32_t;
};
template <>
struct MaskOf<double> {
  using type = std::int64_t;
};

// `count` consecutive pixels of a row of the output that a tap sees inside the image.
template <class C>
struct Copy {
  std::int64_t offset;  // of the first one, from the start of a channel
  std::int32_t lane, count;
  Vec<typename MaskOf<C>::type> mask[kTileVectors];
};

template <class T>
class PixelPanel {
 public:
  using C = Compute<T>;
  using Mask = Vec<typename MaskOf<C>::type>;
  static constexpr int kColumns = kTileColumns<C>;

  // Storage that the caller owns: copies [taps * kColumns], first [taps + 1].
  PixelPanel(const ConvProblem& p, Copy<C>* copies, std::int32_t* first) : p_(p), copies_(copies), first_(first) {}

  // The panel of output pixels [begin, begin + count) of an image, counted along rows.
  void place(std::int64_t begin, int count) {
    count_ = count;
    vectors_ = (count + kLanes<C> - 1) / kLanes<C>;
    std::int32_t next = 0, tap = 0;
    const std::int64_t first_row = begin / p_.out_width, first_column = begin % p_.out_width;
    whole_ = count == vectors_ * kLanes<C> && first_column + count <= p_.out_width;
    for (std::int64_t r = 0; r < p_.num_tap_rows; ++r) {
      for (std::int64_t t = 0; t < p_.num_tap_columns; ++t) {
        first_[tap++] = next;
        const std::int64_t shift = p_.tap_columns[t].offset;
        std::int64_t y = first_row, x = first_column;
        for (int lane = 0; lane < count; ++y, x = 0) {
          const int run = static_cast<int>(p_.out_width - x < count - lane ? p_.out_width - x : count - lane);
          const std::int64_t iy = y * p_.stride[0] + p_.tap_rows[r].offset;
          if (iy >= 0 && iy < p_.in_height) {
            int low = 0, high = run;
            while (low < high && (x + low) * p_.stride[1] + shift < 0) ++low;
            while (high > low && (x + high - 1) * p_.stride[1] + shift >= p_.in_width) --high;
            if (low < high)
              add(copies_[next++], iy * p_.in_row + (x + low) * p_.stride[1] + shift, lane + low, high - low);
          }
          lane += run;
        }
      }
    }
    first_[tap] = next;
    // Every tap of a whole panel sees one full run: copy number `tap`.
    for (std::int32_t i = 0; i < tap; ++i) whole_ = whole_ && first_[i + 1] == i + 1 && copies_[i].count == count;
  }

  int vectors() const { return vectors_; }

  // Writes [channels][taps][vectors * lanes] for `channels` channels from `image` on. `end` is the end of the
  // whole input: a vector that reads more than it needs must stay before it.
  void pack(const T* image, std::int64_t channels, const T* end, C* out) const {
    const std::int64_t taps = p_.taps();
    const int width = vectors_ * kLanes<C>;
    if (whole_ && vectors_ == kTileVectors && taps > 0) {
      const T* last = image + (channels - 1) * p_.in_channel + copies_[taps - 1].offset;
      if (p_.stride[1] == 1) return pack_whole<1>(image, channels, out);
      if (p_.stride[1] == 2 && end - last >= 2 * width) return pack_whole<2>(image, channels, out);
    }
    for (std::int64_t c = 0; c < channels; ++c, image += p_.in_channel)
      for (std::int64_t tap = 0; tap < taps; ++tap, out += width) pack_tap(image, tap, end, out);
  }

 private:
  // All taps see full runs, so there is nothing to decide between one copy and the next.
  template <int Step>
  void pack_whole(const T* image, std::int64_t channels, C* out) const {
    constexpr int lanes = kLanes<C>;
    const std::int64_t taps = p_.taps();
    for (std::int64_t c = 0; c < channels; ++c, image += p_.in_channel)
      for (std::int64_t tap = 0; tap < taps; ++tap, out += kTileVectors * lanes) {
        const T* from = image + copies_[tap].offset;
#pragma GCC unroll 4
        for (int v = 0; v < kTileVectors; ++v)
          store(out + v * lanes, Step == 1
                                     ? load(from + v * lanes)
                                     : even_lanes<C>(load(from + 2 * v * lanes), load(from + (2 * v + 1) * lanes)));
      }
  }

  void add(Copy<C>& copy, std::int64_t offset, int lane, int count) {
    copy.offset = offset;
    copy.lane = lane;
    copy.count = count;
    if (count == vectors_ * kLanes<C>) return;  // a whole panel: its mask is never looked at
    for (int v = 0; v < kTileVectors; ++v)
      for (int i = 0; i < kLanes<C>; ++i) {
        const int at = v * kLanes<C> + i;
        copy.mask[v][i] = at >= lane && at < lane + count ? -1 : 0;
      }
  }

  CVPERF_INLINE void pack_tap(const T* image, std::int64_t tap, const T* end, C* out) const {
    constexpr int lanes = kLanes<C>;
    const int width = vectors_ * lanes;
    const Copy<C>*copy = copies_ + first_[tap], *last = copies_ + first_[tap + 1];
    const bool whole = last - copy == 1 && copy->count == width;
    if (whole && p_.stride[1] == 1) {
      for (int v = 0; v < vectors_; ++v) store(out + v * lanes, load(image + copy->offset + v * lanes));
    } else if (whole && p_.stride[1] == 2 && end - (image + copy->offset) >= 2 * width) {
      for (int v = 0; v < vectors_; ++v) {
        const T* from = image + copy->offset + 2 * v * lanes;
        store(out + v * lanes, even_lanes<C>(load(from), load(from + lanes)));
      }
    } else if (p_.stride[1] == 1 && sizeof(T) == sizeof(C)) {
      Vec<C> value[kTileVectors] = {};
      for (; copy < last; ++copy) {
        const C* from = reinterpret_cast<const C*>(image) + copy->offset - copy->lane;
#pragma GCC unroll 4
        for (int v = 0; v < kTileVectors; ++v) {
          // At most one copy is set in a lane, so joining them is an or of their bits.
          const Mask bits = (Mask)value[v] | (Mask)load_masked(from + v * lanes, copy->mask[v]);
          value[v] = (Vec<C>)bits;
        }
      }
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v)
        if (v < vectors_) store(out + v * lanes, value[v]);
    } else {
      for (int v = 0; v < vectors_; ++v) store(out + v * lanes, Vec<C>{});
      for (; copy < last; ++copy) {
        const T* from = image + copy->offset;
        for (int i = 0; i < copy->count; ++i) out[copy->lane + i] = to_compute(from[i * p_.stride[1]]);
      }
    }
  }

  const ConvProblem& p_;
  Copy<C>* copies_;
  std::int32_t* first_;
  int count_ = 0, vectors_ = 0;
  bool whole_ = false;
};

}  // namespace CVPERF_ISA
}  // namespace cvperf
