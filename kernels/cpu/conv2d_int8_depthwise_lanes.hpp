// Depthwise INT8 convolution from bytes to bytes with AVX-512 VNNI, 64 channels at a time.
//
// Interleaving four rows of 64 bytes by 128 bits takes 8 shuffles and leaves the channels' quads in an order of its
// own: vector j has the channels 4j .. 4j + 3 of each 16. Weights, scales and what the sums start from are brought into
// that order once a task, and packing sums to bytes, which goes by 128 bits as well, undoes it. A pixel of a 3x3 layer
// is 12 dot products and four vectors to quantise for 64 channels.
#pragma once
#include "buffer.hpp"
#include "conv2d_int8.hpp"
#include "int8_dot.hpp"
#include "int8_quantise.hpp"
#include "thread_index.hpp"

#if defined(__AVX512VNNI__)

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr int kLaneChannels = 64;
constexpr int kLanePixels = 32;  // of the output at a time: the quads under them stay in L1

class DepthwiseLanes {
 public:
  // Channels c0 and following. `weights` has room for lane_weights() bytes.
  DepthwiseLanes(const Conv2dInt8Args& args, const Int8Product& product, std::int64_t c0, std::int8_t* weights)
      : shape_(args.shape), c0_(c0), weights_(weights) {
    const std::int64_t left = shape_.in_channels - c0;
    mask_ = left >= kLaneChannels ? ~0ull : ~0ull >> (kLaneChannels - left);
    deep_ = int8_quads(shape_.kernel[0]);
    taps_ = shape_.kernel[1] * deep_;
    is_three_ = shape_.kernel[0] == 3 && shape_.kernel[1] == 3 && shape_.dilation[1] == 1 && shape_.stride[1] <= 2;
    flip_ = product.a_signed ? 0x80 : 0;
    zero_ = static_cast<std::uint8_t>(static_cast<std::uint8_t>(args.zero_point) ^ flip_);
    __builtin_memset(outside_, zero_ ^ flip_, sizeof outside_);
    input_ = static_cast<const std::uint8_t*>(args.input);

    const std::int64_t panels = int8_panels(left < kLaneChannels ? left : kLaneChannels);
    Columns columns{};
    load_columns(product, 0, c0, static_cast<int>(panels * kPanelColumns), columns);
    for (int i = static_cast<int>(panels * kPanelColumns); i < kLaneChannels; ++i) columns.start[i] = 0;
    by_lanes(columns.start, start_);
    by_lanes(columns.scale, scale_);
    by_lanes(columns.bias, bias_);
    quantise_ = quantised(product, columns);
    quantise_.scale = scale_;
    quantise_.bias = bias_;

    // Packed: [panel][tap][16 channels][4]; here [tap][j][128 bits of each panel].
    const std::int8_t* packed =
        reinterpret_cast<const std::int8_t*>(args.packed) + c0 / kPanelColumns * taps_ * kQuadBytes;
    __builtin_memset(weights_, 0, static_cast<std::size_t>(lane_weights(shape_)));
    for (std::int64_t t = 0; t < taps_; ++t)
      for (std::int64_t panel = 0; panel < panels; ++panel)
        for (int j = 0; j < 4; ++j)
          __builtin_memcpy(weights_ + (t * 4 + j) * kQuadBytes + panel * 16,
                           packed + (panel * taps_ + t) * kQuadBytes + j * 16, 16);
  }

  static std::int64_t lane_weights(const Conv2dShape& s) {
    return s.kernel[1] * int8_quads(s.kernel[0]) * 4 * kQuadBytes;
  }
  // Bytes of the quads under kLanePixels pixels.
  static std::int64_t lane_quads(const Conv2dShape& s) {
    const std::int64_t columns = (kLanePixels - 1) * s.stride[1] + (s.kernel[1] - 1) * s.dilation[1] + 1;
    return columns * int8_quads(s.kernel[0]) * 4 * kQuadBytes;
  }

  // Row y of image n.
  void row(std::int64_t n, std::int64_t y, std::uint8_t* quads) const {
    if (is_three_) {
      Quantise to = quantise_;
      to.out += (n * shape_.out_height + y) * shape_.out_width * to.stride;
      const Rows3 rows = rows3(n, y);
      return shape_.stride[1] == 1 ? three<1>(rows, to) : three<2>(rows, to);
    }
    for (std::int64_t x = 0; x < shape_.out_width; x += kLanePixels) {
      const std::int64_t left = shape_.out_width - x, count = left < kLanePixels ? left : kLanePixels;
      interleave(n, y, x, count, quads);
      Quantise to = quantise_;
      to.out += ((n * shape_.out_height + y) * shape_.out_width + x) * to.stride;
      const std::int64_t pixel = shape_.stride[1] * deep_ * 4 * kQuadBytes;
      std::int64_t i = 0;
      for (; i + 4 <= count; i += 4, to.out += 4 * to.stride) pixels<4>(quads + i * pixel, pixel, to);
      for (; i < count; ++i, to.out += to.stride) pixels<1>(quads + i * pixel, pixel, to);
    }
  }

 private:
  // to[j][panel][4] = from[panel][16 channels], four of them for each j.
  template <class From, class To>
  static void by_lanes(const From* from, To* to) {
    static_assert(sizeof(From) == sizeof(To), "moved as they are");
    for (int j = 0; j < 4; ++j)
      for (int panel = 0; panel < 4; ++panel)
        __builtin_memcpy(to + j * 16 + panel * 4, from + panel * kPanelColumns + j * 4, 4 * sizeof(From));
  }

  // The quads under `count` pixels from x on: out[column][deep][4 vectors].
  void interleave(std::int64_t n, std::int64_t y, std::int64_t x, std::int64_t count, std::uint8_t* out) const {
    const Conv2dShape& s = shape_;
    const std::int64_t columns = (count - 1) * s.stride[1] + (s.kernel[1] - 1) * s.dilation[1] + 1;
    const std::int64_t left = x * s.stride[1] - s.padding[1];  // the image's column that is the first here
    const std::int64_t first = clamped(-left, columns), last = clamped(s.in_width - left, columns);
    const std::uint8_t* image = input_ + n * s.in_height * s.in_width * s.in_channels + c0_;
    const std::int64_t step = deep_ * 4 * kQuadBytes;
    const __m512i zero = _mm512_set1_epi8(static_cast<char>(zero_));
    for (std::int64_t q = 0; q < deep_; ++q) {
      const std::uint8_t* rows[4];
      std::int64_t steps[4];
      for (int i = 0; i < 4; ++i) {
        const std::int64_t tap = q * 4 + i < s.kernel[0] ? q * 4 + i : q * 4;  // past the kernel: times a zero
        const std::int64_t row = y * s.stride[0] - s.padding[0] + tap * s.dilation[0];
        const bool inside = row >= 0 && row < s.in_height;
        rows[i] = inside ? image + (row * s.in_width + left + first) * s.in_channels : outside_;
        steps[i] = inside ? s.in_channels : 0;
      }
      std::uint8_t* to = out + q * 4 * kQuadBytes;
      for (std::int64_t c = 0; c < first; ++c) fill(to + c * step, zero);
      for (std::int64_t c = last; c < columns; ++c) fill(to + c * step, zero);
      interleave_columns(rows, steps, last - first, to + first * step, step);
    }
  }

  static std::int64_t clamped(std::int64_t column, std::int64_t columns) {
    return column < 0 ? 0 : column < columns ? column : columns;
  }

  static CVPERF_INLINE void fill(std::uint8_t* to, __m512i zero) {
    for (int j = 0; j < 4; ++j) _mm512_storeu_si512(to + j * kQuadBytes, zero);
  }

  void interleave_columns(const std::uint8_t* const (&rows)[4], const std::int64_t (&steps)[4], std::int64_t count,
                          std::uint8_t* to, std::int64_t step) const {
    const std::uint8_t *row0 = rows[0], *row1 = rows[1], *row2 = rows[2], *row3 = rows[3];
    const __mmask64 mask = mask_;
    const __m512i flip = _mm512_set1_epi8(static_cast<char>(flip_));
    const auto load = [mask, flip](const std::uint8_t* from) {
      return _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, from), flip);
    };
    for (std::int64_t c = 0; c < count; ++c, to += step) {
      const __m512i a = load(row0), b = load(row1), d = load(row2), e = load(row3);
      row0 += steps[0];
      row1 += steps[1];
      row2 += steps[2];
      row3 += steps[3];
      const __m512i low01 = _mm512_unpacklo_epi8(a, b), low23 = _mm512_unpacklo_epi8(d, e);
      const __m512i high01 = _mm512_unpackhi_epi8(a, b), high23 = _mm512_unpackhi_epi8(d, e);
      _mm512_storeu_si512(to, _mm512_unpacklo_epi16(low01, low23));
      _mm512_storeu_si512(to + kQuadBytes, _mm512_unpackhi_epi16(low01, low23));
      _mm512_storeu_si512(to + 2 * kQuadBytes, _mm512_unpacklo_epi16(high01, high23));
      _mm512_storeu_si512(to + 3 * kQuadBytes, _mm512_unpackhi_epi16(high01, high23));
    }
  }

  // --- 3x3

  // Three rows of the image under a row of output; those outside read as the zero point.
  struct Rows3 {
    const std::uint8_t* at[3];  // column -padding
    std::int64_t steps[3];
  };
  Rows3 rows3(std::int64_t n, std::int64_t y) const {
    const Conv2dShape& s = shape_;
    Rows3 rows;
    for (int i = 0; i < 3; ++i) {
      const std::int64_t row = y * s.stride[0] - s.padding[0] + i * s.dilation[0];
      const bool inside = row >= 0 && row < s.in_height;
      rows.steps[i] = inside ? s.in_channels : 0;
      rows.at[i] =
          inside ? input_ + ((n * s.in_height + row) * s.in_width - s.padding[1]) * s.in_channels + c0_ : outside_;
    }
    return rows;
  }

  struct Quads {
    __m512i of[4];
  };
  // Of column c, counted from -padding.
  CVPERF_INLINE Quads column(const Rows3& rows, std::int64_t c) const {
    const std::int64_t x = c - shape_.padding[1];
    if (x < 0 || x >= shape_.in_width) {
      const __m512i zero = _mm512_set1_epi8(static_cast<char>(zero_));
      return {{zero, zero, zero, zero}};
    }
    const __m512i flip = _mm512_set1_epi8(static_cast<char>(flip_));
    __m512i of[3];
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i)
      of[i] = _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask_, rows.at[i] + c * rows.steps[i]), flip);
    const __m512i low01 = _mm512_unpacklo_epi8(of[0], of[1]), low2 = _mm512_unpacklo_epi8(of[2], of[2]);
    const __m512i high01 = _mm512_unpackhi_epi8(of[0], of[1]), high2 = _mm512_unpackhi_epi8(of[2], of[2]);
    return {{_mm512_unpacklo_epi16(low01, low2), _mm512_unpackhi_epi16(low01, low2),
             _mm512_unpacklo_epi16(high01, high2), _mm512_unpackhi_epi16(high01, high2)}};
  }

  using Sums = Vec<std::int32_t>[1][4];
  CVPERF_INLINE void add(Sums& sums, const Quads& quads, const Vec<std::int8_t> (&weights)[4]) const {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) sums[0][j] = dot_quads(sums[0][j], (Vec<std::uint8_t>)quads.of[j], weights[j]);
  }
  CVPERF_INLINE void begin(Sums& sums) const { __builtin_memcpy(sums, start_, sizeof sums); }

  template <int kStride>
  void three(const Rows3& rows, Quantise to) const {
    Vec<std::int8_t> weights[3][4];
    __builtin_memcpy(weights, weights_, sizeof weights);
    const std::int64_t width = shape_.out_width;
    const auto end = [&](Sums& sums) {
      finish<1>(sums, to);
      to.out += to.stride;
    };
    if constexpr (kStride == 2) {
      Sums sums;
      begin(sums);
      add(sums, column(rows, 0), weights[0]);
      for (std::int64_t x = 0; x < width; ++x) {
        add(sums, column(rows, 2 * x + 1), weights[1]);
        const Quads quads = column(rows, 2 * x + 2);
        add(sums, quads, weights[2]);
        end(sums);
        begin(sums);
        add(sums, quads, weights[0]);
      }
    } else {
      // Pixel x in turn in three sets of sums: the first column of its own, the second, the third.
      Sums turns[3];
      begin(turns[0]);
      add(turns[0], column(rows, 0), weights[0]);
      begin(turns[1]);
      const Quads second = column(rows, 1);
      add(turns[0], second, weights[1]);
      add(turns[1], second, weights[0]);
      const auto pixel = [&](Sums& last, Sums& middle, Sums& fresh, std::int64_t x) {
        const Quads quads = column(rows, x + 2);
        add(last, quads, weights[2]);
        add(middle, quads, weights[1]);
        begin(fresh);
        add(fresh, quads, weights[0]);
        end(last);
      };
      for (std::int64_t x = 0; x < width; x += 3) {
        pixel(turns[0], turns[1], turns[2], x);
        if (x + 1 < width) pixel(turns[1], turns[2], turns[0], x + 1);
        if (x + 2 < width) pixel(turns[2], turns[0], turns[1], x + 2);
      }
    }
  }

  // --- any kernel

  // P pixels, `pixel` bytes of quads apart.
  template <int P>
  CVPERF_INLINE void pixels(const std::uint8_t* quads, std::int64_t pixel, const Quantise& to) const {
    Vec<std::int32_t> sum[P][4];
#pragma GCC unroll 4
    for (int i = 0; i < P; ++i) __builtin_memcpy(sum[i], start_, sizeof sum[i]);
    const std::int64_t tap = shape_.dilation[1] * deep_ * 4 * kQuadBytes;
    const std::int8_t* w = weights_;
    for (std::int64_t t = 0; t < shape_.kernel[1]; ++t, quads += tap)
      for (std::int64_t q = 0; q < deep_; ++q)
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j, w += kQuadBytes) {
          Vec<std::int8_t> weight;
          __builtin_memcpy(&weight, w, sizeof weight);
#pragma GCC unroll 4
          for (int i = 0; i < P; ++i) {
            Vec<std::uint8_t> quad;
            __builtin_memcpy(&quad, quads + i * pixel + (q * 4 + j) * kQuadBytes, sizeof quad);
            sum[i][j] = dot_quads(sum[i][j], quad, weight);
          }
        }
    finish<P>(sum, to);
  }

  // Bytes of P pixels.
  template <int P>
  CVPERF_INLINE void finish(Vec<std::int32_t> (&sum)[P][4], const Quantise& to) const {
    round_sums<P, 4, false>(sum, to);
#pragma GCC unroll 4
    for (int i = 0; i < P; ++i) {
      const __m512i bytes = pack_by_lanes(sum[i], to);
      if (mask_ == ~0ull)
        _mm512_storeu_si512(to.out + i * to.stride, bytes);
      else
        _mm512_mask_storeu_epi8(to.out + i * to.stride, mask_, bytes);
    }
  }

  const Conv2dShape& shape_;
  std::int64_t c0_, deep_, taps_;
  const std::uint8_t* input_;
  std::int8_t* weights_;
  std::uint64_t mask_;
  bool is_three_;
  std::uint8_t flip_, zero_;  // 0x80 for a signed image; the zero point as the quads have it
  Quantise quantise_;
  alignas(64) std::uint8_t outside_[kLaneChannels];  // a pixel of padding
  alignas(64) std::uint32_t start_[kLaneChannels];
  alignas(64) float scale_[kLaneChannels], bias_[kLaneChannels];
};

// Whether the layer is one of bytes to bytes that needs no more than a clamp.
bool fits_lanes(const Int8Product& product) {
  Columns none{};
  return !product.finish.residual && quantised(product, none).out;
}

void depthwise_by_lanes(const Conv2dInt8Args& args, const Int8Product& product, int threads) {
  const Conv2dShape& s = args.shape;
  const std::int64_t chunks = (s.in_channels + kLaneChannels - 1) / kLaneChannels, rows = s.batch * s.out_height;
  // Several rows a task: its channels' weights are put in order once. A few tasks for each thread even out.
  const std::int64_t wanted = rows * chunks / (threads == 1 ? 1 : 8 * threads);
  const std::int64_t height = wanted < 1 ? 1 : wanted < rows ? wanted : rows;
  const std::int64_t blocks = (rows + height - 1) / height;
  const std::int64_t weights = DepthwiseLanes::lane_weights(s), size = weights + DepthwiseLanes::lane_quads(s);
  Buffer<std::uint8_t> scratch(static_cast<std::size_t>(size) * static_cast<std::size_t>(threads));
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
  for (std::int64_t task = 0; task < blocks * chunks; ++task) {
    std::uint8_t* const own = scratch.data() + thread_index() * size;
    const DepthwiseLanes lanes(args, product, task % chunks * kLaneChannels, reinterpret_cast<std::int8_t*>(own));
    const std::int64_t first = task / chunks * height, last = first + height < rows ? first + height : rows;
    for (std::int64_t row = first; row < last; ++row) lanes.row(row / s.out_height, row % s.out_height, own + weights);
  }
}

}  // namespace
}  // namespace CVPERF_ISA
}  // namespace cvperf

#endif
