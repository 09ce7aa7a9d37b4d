// Resizing channels-last images: nearest neighbour and bilinear.
//
// Idea: where a row and a column of the output come from is the same for all channels, so columns are looked up in a
// table that is made once a call, and channels fill the vectors. `nearest` copies pixels as bytes.
//
// Positions have torch's float32 roundings, for they decide which pixel is nearest and, beyond pixel 1000, the fourth
// digit of a weight. Where torch's compiler fuses a multiply-add, the double that stands for it rounds as that does.
//
// Roofline: the bytes of input and output over the bandwidth of where they lie; the output's weigh more.
#include "interpolate.hpp"

#include "bfloat16_pairs.hpp"
#include "buffer.hpp"
#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kAlone = 1 << 15;  // elements; fewer take longer to share out than to compute

// Input pixels from one output pixel to the next.
float step_of(const InterpolateArgs& args, int axis) {
  const std::int64_t in = args.in[axis], out = args.out[axis];
  if (args.mode == Interpolation::bilinear && args.align_corners)
    return out > 1 ? static_cast<float>(in - 1) / static_cast<float>(out - 1) : 0.0f;
  if (args.scale[axis] > 0.0) return static_cast<float>(1.0 / args.scale[axis]);
  return static_cast<float>(in) / static_cast<float>(out);
}

// A position between two pixels of a row or column.
struct Sample {
  std::int64_t low, high;
  float weight;  // of `high`
};

Sample sample_at(const InterpolateArgs& args, int axis, float step, std::int64_t i) {
  const std::int64_t in = args.in[axis], last = in - 1;
  if (in == args.out[axis]) return {i, i, 0.0f};
  float position = step * static_cast<float>(i);
  if (!args.align_corners) {
    const double center = static_cast<double>(static_cast<float>(i) + 0.5f);
    position = static_cast<float>(static_cast<double>(step) * center - 0.5);
    position = position < 0.0f ? 0.0f : position;
  }
  const std::int64_t floor = static_cast<std::int64_t>(position), low = floor < last ? floor : last;
  const float weight = position - static_cast<float>(low);
  return {low, low < last ? low + 1 : low, weight < 1.0f ? weight : 1.0f};
}

std::int64_t nearest_of(const InterpolateArgs& args, int axis, float step, std::int64_t i) {
  const std::int64_t in = args.in[axis], out = args.out[axis], last = in - 1;
  if (out == in) return i;
  if (out == 2 * in) return i / 2;
  const std::int64_t floor = static_cast<std::int64_t>(static_cast<float>(i) * step);
  return floor < last ? floor : last;
}

// work(image, i, row of the output) for each of them.
template <class Work>
void for_each_row(const InterpolateArgs& args, const Work& work) {
  const std::int64_t rows = args.images * args.out[0], pixels = args.in[0] * args.in[1] + args.out[0] * args.out[1];
  const int threads = args.images * args.channels * pixels < kAlone ? 1 : args.num_threads;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
  for (std::int64_t row = 0; row < rows; ++row) work(row / args.out[0], row % args.out[0], row);
}

// --- bilinear -------------------------------------------------------------------------------------

// The four pixels around a position, and their weights.
template <class T>
struct Corners {
  const T *p00, *p01, *p10, *p11;
  float w00, w01, w10, w11;
};

template <class T>
CVPERF_INLINE Vec<float> blend(const Corners<T>& corners, Vec<float> v00, Vec<float> v01, Vec<float> v10,
                               Vec<float> v11) {
  return v00 * corners.w00 + v01 * corners.w01 + v10 * corners.w10 + v11 * corners.w11;
}

template <bool kWhole, class T>
CVPERF_INLINE void blend_vector(const Corners<T>& corners, std::int64_t c, int lanes, T* out) {
  const auto read = [=](const T* from) {
    if constexpr (kWhole) return load(from + c);
    return load_partial(from + c, lanes);
  };
  const Vec<float> value = blend(corners, read(corners.p00), read(corners.p01), read(corners.p10), read(corners.p11));
  if constexpr (kWhole) return store(out + c, value);
  store_partial(out + c, value, lanes);
}

// The channels that pairs of vectors take, and how many those are.
template <class T>
CVPERF_INLINE std::int64_t blend_pairs(const Corners<T>&, std::int64_t, T*) {
  return 0;
}
CVPERF_INLINE std::int64_t blend_pairs(const Corners<bfloat16>& corners, std::int64_t channels, bfloat16* out) {
  std::int64_t c = 0;
  for (; c + kPairLanes <= channels; c += kPairLanes) {
    const Pairs v00 = load_pairs(corners.p00 + c), v01 = load_pairs(corners.p01 + c);
    const Pairs v10 = load_pairs(corners.p10 + c), v11 = load_pairs(corners.p11 + c);
    store_pairs(out + c, {blend(corners, v00.even, v01.even, v10.even, v11.even),
                          blend(corners, v00.odd, v01.odd, v10.odd, v11.odd)});
  }
  return c;
}

// Every channel of a pixel. The last vector takes some channels again where they do not fill it.
template <class T>
CVPERF_INLINE void blend_pixel(const Corners<T>& corners, std::int64_t channels, T* out) {
  constexpr int L = kLanes<float>;
  if (channels < L) return blend_vector<false>(corners, 0, static_cast<int>(channels), out);
  std::int64_t c = blend_pairs(corners, channels, out);
  for (; c + L <= channels; c += L) blend_vector<true>(corners, c, L, out);
  if (c < channels) blend_vector<true>(corners, channels - L, L, out);
}

template <class T>
void resize_bilinear(const InterpolateArgs& args) {
  const std::int64_t width = args.out[1], channels = args.channels, pitch = args.in[1] * channels;
  const float row_step = step_of(args, 0), column_step = step_of(args, 1);
  Buffer<Sample, 256> columns(static_cast<std::size_t>(width));
  for (std::int64_t j = 0; j < width; ++j) columns[static_cast<std::size_t>(j)] = sample_at(args, 1, column_step, j);
  const Sample* const column = columns.data();
  for_each_row(args, [&args, width, channels, pitch, row_step, column](auto image, auto i, auto row) {
    const Sample y = sample_at(args, 0, row_step, i);
    const T* const from = static_cast<const T*>(args.input) + image * args.in[0] * pitch;
    const T *const low = from + y.low * pitch, *const high = from + y.high * pitch;
    T* out = static_cast<T*>(args.output) + row * width * channels;
    for (std::int64_t j = 0; j < width; ++j, out += channels) {
      const Sample& x = column[j];
      const std::int64_t left = x.low * channels, right = x.high * channels;
      const float y0 = 1.0f - y.weight, x0 = 1.0f - x.weight;
      const Corners<T> corners{low + left, low + right,   high + left,   high + right,
                               y0 * x0,    y0 * x.weight, y.weight * x0, y.weight * x.weight};
      blend_pixel(corners, channels, out);
    }
  });
}

// --- nearest --------------------------------------------------------------------------------------

// kBytes of a pixel, or `bytes` if it is 0.
template <int kBytes>
void resize_nearest(const InterpolateArgs& args, std::int64_t bytes) {
  const std::int64_t width = args.out[1], pitch = args.in[1] * bytes;
  const float row_step = step_of(args, 0), column_step = step_of(args, 1);
  Buffer<std::int64_t, 512> columns(static_cast<std::size_t>(width));
  for (std::int64_t j = 0; j < width; ++j)
    columns[static_cast<std::size_t>(j)] = nearest_of(args, 1, column_step, j) * bytes;
  const std::int64_t* const column = columns.data();
  for_each_row(args, [&args, bytes, width, pitch, row_step, column](auto image, auto i, auto row) {
    const std::int64_t y = image * args.in[0] + nearest_of(args, 0, row_step, i);
    const char* const from = static_cast<const char*>(args.input) + y * pitch;
    char* out = static_cast<char*>(args.output) + row * width * bytes;
    for (std::int64_t j = 0; j < width; ++j, out += bytes)
      __builtin_memcpy(out, from + column[j], static_cast<std::size_t>(kBytes ? kBytes : bytes));
  });
}

void resize_nearest(const InterpolateArgs& args) {
  const std::int64_t bytes = args.channels * size_of(args.dtype);
  switch (bytes) {
    case 1:
      return resize_nearest<1>(args, bytes);
    case 2:
      return resize_nearest<2>(args, bytes);
    case 3:
      return resize_nearest<3>(args, bytes);
    case 4:
      return resize_nearest<4>(args, bytes);
    default:
      return resize_nearest<0>(args, bytes);
  }
}

}  // namespace

void interpolate(const InterpolateArgs& args) {
  if (args.images * args.channels * args.out[0] * args.out[1] == 0) return;
  if (args.mode == Interpolation::nearest) return resize_nearest(args);
  with_float(args.dtype, [&](auto type) { resize_bilinear<decltype(type)>(args); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
