// Depthwise INT8 convolution: every channel has a kernel of its own, channels are the lanes.
//
// A quad (what the dot products of int8_dot.hpp sum over) is four rows of one kernel column. For a row of output, the
// image rows under the kernel are interleaved once into quads [column][quad][channel][4] in scratch that stays in L1;
// each output pixel is then `kernel width` dot products for 16 channels, and neighbours share the quads. A 3x3
// kernel uses 3 rows of 4, so a quarter of the products is idle; the interleaving, 8 shuffles for 16 channels of a
// column, costs more than they do. Padding reads as the input's zero point. With AVX-512 VNNI, layers that give bytes
// go another way (conv2d_int8_depthwise_lanes.hpp).
#include "conv2d_int8_depthwise.hpp"

#include "buffer.hpp"
#include "conv2d_int8_depthwise_lanes.hpp"
#include "int8_dot.hpp"
#include "int8_epilogue.hpp"
#include "int8_interleave.hpp"
#include "thread_index.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr int kPanelsAtOnce = kMaxTileColumns / static_cast<int>(kPanelColumns);
constexpr int kPixelsAtOnce = 16;
constexpr std::int64_t kQuad = kQuadBytes;  // elements of 16 quads

struct Depthwise {
  const Conv2dInt8Args& args;
  const Int8Product& product;
  std::int64_t quads;    // in a kernel column
  std::int64_t columns;  // of the padded image under a row of output

  explicit Depthwise(const Conv2dInt8Args& args, const Int8Product& product) : args(args), product(product) {
    const Conv2dShape& s = args.shape;
    quads = int8_quads(s.kernel[0]);
    columns = (s.out_width - 1) * s.stride[1] + (s.kernel[1] - 1) * s.dilation[1] + 1;
  }

  // The quads of the 16 channels of a panel under output row y: out[columns][quads][16][4].
  template <class T>
  void interleave_panel(std::int64_t n, std::int64_t y, std::int64_t panel, AElement* out) const {
    const Conv2dShape& s = args.shape;
    const std::int64_t channel = panel * kPanelColumns, left = s.in_channels - channel;
    const Bytes zero = Bytes{} + static_cast<std::int8_t>(args.zero_point);
    const std::int64_t first = s.padding[1] < columns ? s.padding[1] : columns;  // column that is in the image
    const std::int64_t last = first + s.in_width < columns ? first + s.in_width : columns;
    const T* image = static_cast<const T*>(args.input) + n * s.in_height * s.in_width * s.in_channels;
    for (std::int64_t q = 0; q < quads; ++q) {
      const T* rows[4];
      std::int64_t steps[4];
      for (int i = 0; i < 4; ++i) {
        const std::int64_t tap = q * 4 + i < s.kernel[0] ? q * 4 + i : 0;  // past the kernel: times a zero
        const std::int64_t row = y * s.stride[0] - s.padding[0] + tap * s.dilation[0];
        const bool inside = row >= 0 && row < s.in_height;
        rows[i] = inside ? image + row * s.in_width * s.in_channels + channel : reinterpret_cast<const T*>(&zero);
        steps[i] = inside ? s.in_channels : 0;
      }
      AElement* to = out + q * kQuad;
      const std::int64_t step = quads * kQuad;
      const Bytes outside[4] = {zero, zero, zero, zero};
      for (std::int64_t c = 0; c < first; ++c) store_quads<T>(outside, to + c * step);
      for (std::int64_t c = last; c < columns; ++c) store_quads<T>(outside, to + c * step);
      if (left >= kPanelColumns)
        interleave_columns<T, true>(rows, steps, last - first, left, to + first * step, step);
      else
        interleave_columns<T, false>(rows, steps, last - first, left, to + first * step, step);
    }
  }

  template <class T>
  static CVPERF_INLINE void store_quads(const Bytes (&pixels)[4], AElement* to) {
    Bytes quad[4];
    interleave(pixels, quad);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) widen_bytes<T>(quad[i], to + i * kPanelColumns);
  }

  // `count` columns of four rows, whole panels or the `left` channels of the last one.
  template <class T, bool kWhole>
  static void interleave_columns(const T* const (&rows)[4], const std::int64_t (&steps)[4], std::int64_t count,
                                 std::int64_t left, AElement* to, std::int64_t step) {
    const T *row0 = rows[0], *row1 = rows[1], *row2 = rows[2], *row3 = rows[3];
    const std::size_t size = kWhole ? sizeof(Bytes) : static_cast<std::size_t>(left);
    for (std::int64_t c = 0; c < count; ++c, to += step) {
      Bytes pixels[4] = {};
      __builtin_memcpy(&pixels[0], row0, size);
      __builtin_memcpy(&pixels[1], row1, size);
      __builtin_memcpy(&pixels[2], row2, size);
      __builtin_memcpy(&pixels[3], row3, size);
      row0 += steps[0];
      row1 += steps[1];
      row2 += steps[2];
      row3 += steps[3];
      store_quads<T>(pixels, to);
    }
  }

#if defined(CVPERF_BYTE_DOT)
  struct Quads {
    const AElement* first;
    std::int64_t pixel, tap;  // elements from one to the next
  };

  // The channels of one vector.
  template <int kWidth>
  static CVPERF_INLINE void dot_vector(Quads a, int count, int width, int deep, const std::int8_t* b,
                                       const std::uint32_t* start, std::int32_t* sums) {
    Vec<std::int32_t> first;
    __builtin_memcpy(&first, start, sizeof first);
    Vec<std::int8_t> weights[kWidth ? kWidth : 1];
#pragma GCC unroll 4
    for (int t = 0; t < kWidth; ++t) __builtin_memcpy(&weights[t], b + t * kQuadBytes, sizeof weights[t]);
    for (int i = 0; i < count; ++i, a.first += a.pixel, sums += kMaxTileColumns) {
      Vec<std::int32_t> sum = first;
      const std::int8_t* w = b;
#pragma GCC unroll 4
      for (int t = 0; t < width; ++t)
        for (int q = 0; q < deep; ++q, w += kQuadBytes) {
          Vec<std::uint8_t> quad;
          __builtin_memcpy(&quad, a.first + t * a.tap + q * kQuad, sizeof quad);
          Vec<std::int8_t> weight = weights[kWidth ? t : 0];
          if (!kWidth) __builtin_memcpy(&weight, w, sizeof weight);
          sum = dot_quads(sum, quad, weight);
        }
      __builtin_memcpy(sums, &sum, sizeof sum);
    }
  }
#endif

  // sums[pixels][64]: 16 channels of `count` pixels, from x on. kWidth is that of a kernel one quad high, or 0 for
  // any: where it is known, the weights stay in registers.
  template <int kWidth>
  void dot(const AElement* a, std::int64_t x, int count, std::int64_t panel, const std::uint32_t* start,
           std::int32_t* sums) const {
    const Conv2dShape& s = args.shape;
    const int width = kWidth ? kWidth : static_cast<int>(s.kernel[1]), deep = kWidth ? 1 : static_cast<int>(quads);
    const std::int8_t* const b = reinterpret_cast<const std::int8_t*>(args.packed) + panel * width * deep * kQuadBytes;
    const std::int64_t pixel = s.stride[1] * quads * kQuad, tap = s.dilation[1] * quads * kQuad;
    a += x * pixel;
#if defined(CVPERF_BYTE_DOT)
#pragma GCC unroll 2
    for (int v = 0; v < kVectorsPerPanel; ++v)
      dot_vector<kWidth>({a + v * kVectorBytes, pixel, tap}, count, width, deep, b + v * kVectorBytes,
                         start + v * kColumns, sums + v * kColumns);
#else
    for (int c = 0; c < kPanelColumns; c += 2 * kColumns)
      for (int i = 0; i < count; ++i) {
        Vec<std::int32_t> low{}, high{};
        const std::int8_t* w = b + c * 4;
        for (int t = 0; t < width; ++t)
          for (int q = 0; q < deep; ++q, w += kQuadBytes) {
            Vec<std::int16_t> quad[2];
            __builtin_memcpy(quad, a + i * pixel + t * tap + q * kQuad + c * 4, sizeof quad);
            low += multiply_pairs(quad[0], load_b(w));
            high += multiply_pairs(quad[1], load_b(w + kColumns * 4));
          }
        store_pair_sums(sums + i * kMaxTileColumns + c, reinterpret_cast<const std::int32_t*>(start) + c, low, high);
      }
#endif
  }

  // Row y of image n, panels p0 and following of its channels.
  void run(std::int64_t n, std::int64_t y, std::int64_t p0, AElement* scratch) const {
    const Conv2dShape& s = args.shape;
    const std::int64_t left = int8_panels(s.in_channels) - p0;
    const int panels = left < kPanelsAtOnce ? static_cast<int>(left) : kPanelsAtOnce;
    const std::int64_t pitch = columns * quads * kQuad;
    Columns finishing;
    load_columns(product, 0, p0 * kPanelColumns, panels * static_cast<int>(kPanelColumns), finishing);
    for (int p = 0; p < panels; ++p) {
      if (product.a_signed)
        interleave_panel<std::int8_t>(n, y, p0 + p, scratch + p * pitch);
      else
        interleave_panel<std::uint8_t>(n, y, p0 + p, scratch + p * pitch);
    }
    alignas(64) std::int32_t sums[kPixelsAtOnce * kMaxTileColumns];
    for (std::int64_t x = 0; x < s.out_width; x += kPixelsAtOnce) {
      const int count = s.out_width - x < kPixelsAtOnce ? static_cast<int>(s.out_width - x) : kPixelsAtOnce;
      for (int p = 0; p < panels; ++p) {
        const std::int64_t at = p * kPanelColumns;
        if (quads == 1 && s.kernel[1] == 3)
          dot<3>(scratch + p * pitch, x, count, p0 + p, finishing.start + at, sums + at);
        else
          dot<0>(scratch + p * pitch, x, count, p0 + p, finishing.start + at, sums + at);
      }
      finish(product, (n * s.out_height + y) * s.out_width + x, count, finishing, sums, kMaxTileColumns);
    }
  }
};

}  // namespace

void conv2d_int8_depthwise(const Conv2dInt8Args& args) {
  const Conv2dShape& s = args.shape;
  const std::int64_t rows = s.batch * s.out_height;
  const std::int64_t k = s.kernel[1] * int8_quads(s.kernel[0]) * 4;
  const Int8Product product{rows * s.out_width, k,           s.in_channels, 1, nullptr, nullptr, s.dtype == DType::i8,
                            args.packed,        args.finish, s.num_threads};
  if (product.m == 0) return;
  const Depthwise job(args, product);
  const std::int64_t chunks = (int8_panels(s.in_channels) + kPanelsAtOnce - 1) / kPanelsAtOnce, tasks = rows * chunks;
  const double work = double(product.m) * double(k) * double(s.in_channels);
  const int threads = work < 4e5 ? 1 : static_cast<int>(tasks < s.num_threads ? tasks : s.num_threads);
#if defined(__AVX512VNNI__)
  if (fits_lanes(product)) return depthwise_by_lanes(args, product, threads);
#endif
  const std::int64_t size = kPanelsAtOnce * job.columns * job.quads * kQuad;
  Buffer<AElement> scratch(static_cast<std::size_t>(size) * static_cast<std::size_t>(threads));
  // Whole rows of the output where there are many: the chunks of a pixel's channels share cache lines.
  const int grain = static_cast<int>(rows >= 16 * threads ? 4 * chunks : 1);
#pragma omp parallel for schedule(dynamic, grain) num_threads(threads) if (threads > 1)
  for (std::int64_t task = 0; task < tasks; ++task) {
    const int thread = thread_index();
    job.run(task / chunks / s.out_height, task / chunks % s.out_height, task % chunks * kPanelsAtOnce,
            scratch.data() + thread * size);
  }
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
