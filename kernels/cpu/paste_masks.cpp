// Each mask of M x M probabilities is resized into its box and pasted into an image of zeros, and optionally compared
// with a threshold, in one pass over the output.
//
// Idea: bilinear interpolation is separable. Two source rows, already stretched to the width of the box, are kept in
// L1; an output row is a blend of them, one multiply and one multiply-add a pixel, and when the position moves on
// to the next source row one more row is stretched. What lies between the box's part of one row and of the next is
// one run of zeros. Work is split into bands of image rows, so that every byte is written once, by one thread.
//
// Roofline: the output, written once, over the bandwidth of where it lies; everything that is read is small. A
// threshold in the pass makes that one byte a pixel in place of four written, four read and one written. Outputs that
// no cache holds are zeroed past the caches, which saves reading them first. Reached on one thread of a Zen 4: 0.8 of a
// copy's rate for 100 masks of 800 x 1333, 0.3 where the output lies in L3, 0.09 where everything is box.
//
// The formula is that of torchvision's paste_masks_in_image, operation for operation: the box is expanded by
// (M + 2 padding) / M about its centre in the dtype of the boxes and cut to whole pixels, the padded mask is resized to
// its size as torch's interpolate does (bilinear, align_corners=False), horizontally first. A box that torchvision
// fails on (NaN, or wholly left of or above the image) is pasted nowhere.
#include "paste_masks.hpp"

#include "buffer.hpp"
#include "streaming.hpp"
#include "thread_index.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kBandBytes = 256 << 10;  // of output: fine enough to share out, coarse enough to start rarely
constexpr std::int64_t kFarthest = 1 << 30;     // coordinates beyond it are taken for wrong

// A pixel of the output that says whether the value is above the threshold.
template <class C>
struct Flag {
  std::uint8_t set;
};
template <class T>
struct PixelOf {
  using type = Compute<T>;
};
template <class C>
struct PixelOf<Flag<C>> {
  using type = C;
};

// Along one axis: output pixels [begin, end) of the image, of a box that starts at `origin` and is `size` long.
struct Span {
  std::int64_t origin, size, begin, end;
};

// The box in whole pixels along one axis; empty if it is nowhere in an image that long.
template <class C>
Span span_of(C low, C high, C scale, std::int64_t image) {
  C half = (high - low) * C(0.5), middle = (high + low) * C(0.5);
  half *= scale;
  hold(half);  // no multiply-add: each step is rounded, as in torch
  hold(middle);
  const C first = middle - half, last = middle + half;
  const C farthest = static_cast<C>(kFarthest);
  if (!(first > -farthest && first < farthest && last > -farthest && last < farthest)) return {0, 1, 0, 0};
  const std::int64_t from = static_cast<std::int64_t>(first), to = static_cast<std::int64_t>(last);
  Span span{from, to - from + 1 > 1 ? to - from + 1 : 1, from > 0 ? from : 0, to + 1 < image ? to + 1 : image};
  if (span.end < span.begin) span.end = span.begin;
  return span;
}

// Where an output pixel lies between two of the `source` pixels: torch's rule.
template <class C>
struct Tap {
  std::int64_t at;  // and at + 1
  C first, second;  // their weights
};
template <class C>
CVPERF_INLINE Tap<C> tap_of(std::int64_t pixel, std::int64_t size, std::int64_t source, C ratio) {
  if (size == source) return {pixel, C(1), C(0)};
  C position = ratio * (static_cast<C>(pixel) + C(0.5)) - C(0.5);
  position = position < C(0) ? C(0) : position;
  std::int64_t at = static_cast<std::int64_t>(position);
  at = at < source - 1 ? at : source - 1;
  C second = position - static_cast<C>(at);
  second = second < C(1) ? second : C(1);
  return {at, C(1) - second, second};
}

// Scratch of one thread, all of it in the compute type.
template <class C>
struct Scratch {
  C* source;         // the padded mask, [source + 1][source + 1]: its last row and column twice
  C* first;          // weights of each column of the box within the image
  C* second;         //
  C* rows[2];        // two source rows, stretched
  std::int32_t* at;  // the source column of each
};

template <class T>
void pad_mask(const T* mask, std::int64_t side, std::int64_t padding, Compute<T>* to) {
  const std::int64_t source = side + 2 * padding, pitch = source + 1;
  for (std::int64_t y = 0; y < pitch; ++y) {
    const std::int64_t row = (y < source ? y : source - 1) - padding;
    for (std::int64_t x = 0; x < pitch; ++x) {
      const std::int64_t column = (x < source ? x : source - 1) - padding;
      const bool inside = row >= 0 && row < side && column >= 0 && column < side;
      to[y * pitch + x] = inside ? to_compute(mask[row * side + column]) : Compute<T>(0);
    }
  }
}

// to[x] = the source row at each column of the box. The loop is left to the compiler: it is a gather.
template <class C>
void stretch(const C* row, const Scratch<C>& scratch, std::int64_t count, C* to) {
  const std::int32_t* const at = scratch.at;
  const C *const first = scratch.first, *const second = scratch.second;
  for (std::int64_t x = 0; x < count; ++x) to[x] = row[at[x]] * first[x] + row[at[x] + 1] * second[x];
}

CVPERF_INLINE void store_pixels(float* out, Vec<float> v, Vec<float>) { store(out, v); }
CVPERF_INLINE void store_pixels(half* out, Vec<float> v, Vec<float>) { store(out, v); }
CVPERF_INLINE void store_pixels(bfloat16* out, Vec<float> v, Vec<float>) { store(out, v); }
CVPERF_INLINE void store_pixels(double* out, Vec<double> v, Vec<double>) { store(out, v); }
CVPERF_INLINE void store_pixels(Flag<float>* out, Vec<float> v, Vec<float> threshold) {
#if defined(__AVX512F__) && CVPERF_VECTOR_BYTES == 64
  const __mmask16 above = static_cast<__mmask16>(lanes_above(v, threshold));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_maskz_set1_epi8(above, 1));
#elif defined(__AVX2__) && CVPERF_VECTOR_BYTES == 32
  const __m256i above = (__m256i)(v > threshold);
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(above), _mm256_extracti128_si256(above, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(out), _mm_and_si128(_mm_packs_epi16(words, words), _mm_set1_epi8(1)));
#else
  for (int i = 0; i < kLanes<float>; ++i) out[i].set = v[i] > threshold[i];
#endif
}
CVPERF_INLINE void store_pixels(Flag<double>* out, Vec<double> v, Vec<double> threshold) {
  for (int i = 0; i < kLanes<double>; ++i) out[i].set = v[i] > threshold[i];
}

// out[x] = a[x] * wa + b[x] * wb for x < count. `a` and `b` are whole vectors long.
template <class Out, class C>
void blend(Out* out, const C* a, C wa, const C* b, C wb, std::int64_t count, C threshold) {
  const Vec<C> first = broadcast(wa), second = broadcast(wb), level = broadcast(threshold);
  std::int64_t x = 0;
  for (; x + kLanes<C> <= count; x += kLanes<C>)
    store_pixels(out + x, load(a + x) * first + load(b + x) * second, level);
  if (x == count) return;
  Out last[kLanes<C>];
  store_pixels(last, load(a + x) * first + load(b + x) * second, level);
  __builtin_memcpy(out + x, last, static_cast<std::size_t>(count - x) * sizeof(Out));
}

void zero(char* begin, char* end, bool past_caches) {
  if (past_caches && end - begin > 4 * kVectorBytes) {
    for (; !vector_aligned(begin); ++begin) *begin = 0;
    for (; end - begin >= kVectorBytes; begin += kVectorBytes)
      store_past_caches(reinterpret_cast<float*>(begin), Vec<float>{});
  }
  if (end > begin) __builtin_memset(begin, 0, static_cast<std::size_t>(end - begin));
}

template <class C>
Span span_of_box(const PasteMasksArgs& args, std::int64_t k, int axis) {
  const C* box = static_cast<const C*>(args.boxes) + 4 * k;
  const C scale = static_cast<C>(static_cast<double>(args.side + 2 * args.padding) / static_cast<double>(args.side));
  return span_of<C>(box[axis], box[axis + 2], scale, axis ? args.height : args.width);
}
Span span_of_box(const PasteMasksArgs& args, std::int64_t k, int axis) {
  return args.box_dtype == DType::f64 ? span_of_box<double>(args, k, axis) : span_of_box<float>(args, k, axis);
}

// Image rows [top, bottom) of mask k.
template <class Out, class C>
void paste_band(const PasteMasksArgs& args, std::int64_t k, std::int64_t top, std::int64_t bottom,
                const Scratch<C>& scratch, bool past_caches) {
  Out* const image = static_cast<Out*>(args.out) + k * args.height * args.width;
  const Span across = span_of_box(args, k, 0), down = span_of_box(args, k, 1);
  const std::int64_t from = down.begin > top ? down.begin : top, to = down.end < bottom ? down.end : bottom;
  const std::int64_t count = across.end - across.begin, source = args.side + 2 * args.padding, pitch = source + 1;
  char* written = reinterpret_cast<char*>(image + top * args.width);
  if (from < to && count > 0) {
    if (args.dtype == DType::f64) {
      pad_mask(static_cast<const double*>(args.masks) + k * args.side * args.side, args.side, args.padding,
               reinterpret_cast<double*>(scratch.source));
    } else {
      with_float(args.dtype, [&](auto type) {
        using T = decltype(type);
        pad_mask(static_cast<const T*>(args.masks) + k * args.side * args.side, args.side, args.padding,
                 reinterpret_cast<float*>(scratch.source));
      });
    }
    C ratio = static_cast<C>(source) / static_cast<C>(across.size);
    for (std::int64_t x = 0; x < count; ++x) {
      const Tap<C> tap = tap_of(across.begin + x - across.origin, across.size, source, ratio);
      scratch.at[x] = static_cast<std::int32_t>(tap.at);
      scratch.first[x] = tap.first;
      scratch.second[x] = tap.second;
    }
    ratio = static_cast<C>(source) / static_cast<C>(down.size);
    std::int64_t held[2] = {-1, -1};  // which source row each buffer has: even ones lie in the first
    for (std::int64_t y = from; y < to; ++y) {
      const Tap<C> tap = tap_of(y - down.origin, down.size, source, ratio);
      for (std::int64_t row = tap.at; row < tap.at + 2; ++row) {
        if (held[row % 2] != row) stretch(scratch.source + row * pitch, scratch, count, scratch.rows[row % 2]);
        held[row % 2] = row;
      }
      Out* const out = image + y * args.width + across.begin;
      zero(written, reinterpret_cast<char*>(out), past_caches);
      blend(out, scratch.rows[tap.at % 2], tap.first, scratch.rows[1 - tap.at % 2], tap.second, count,
            static_cast<C>(args.threshold));
      written = reinterpret_cast<char*>(out + count);
    }
  }
  zero(written, reinterpret_cast<char*>(image + bottom * args.width), past_caches);
}

template <class Out>
void paste(const PasteMasksArgs& args) {
  using C = typename PixelOf<Out>::type;
  const std::int64_t row_bytes = args.width * static_cast<std::int64_t>(sizeof(Out));
  if (args.count * args.height * row_bytes == 0) return;
  std::int64_t rows = kBandBytes / row_bytes;
  rows = rows < 1 ? 1 : rows < args.height ? rows : args.height;
  const std::int64_t bands = (args.height + rows - 1) / rows, tasks = args.count * bands;
  const bool past_caches = args.count * args.height * row_bytes >= kPastCachesBytes;
  const int threads = args.num_threads < tasks ? args.num_threads : static_cast<int>(tasks);

  const std::int64_t side = args.side + 2 * args.padding + 1, columns = args.width + kLanes<C>;
  const std::size_t each = Buffer<C>::bytes_of(static_cast<std::size_t>(side * side)) +
                           4 * Buffer<C>::bytes_of(static_cast<std::size_t>(columns)) +
                           Buffer<std::int32_t>::bytes_of(static_cast<std::size_t>(columns));
  Buffer<char> memory(each * static_cast<std::size_t>(threads));
  __builtin_memset(memory.data(), 0, each * static_cast<std::size_t>(threads));  // the ends of rows are read as vectors
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
  for (std::int64_t task = 0; task < tasks; ++task) {
    Cutter cutter(memory.data() + each * static_cast<std::size_t>(thread_index()));
    Scratch<C> scratch;
    scratch.source = cutter.take<C>(side * side);
    scratch.first = cutter.take<C>(columns);
    scratch.second = cutter.take<C>(columns);
    for (C*& row : scratch.rows) row = cutter.take<C>(columns);
    scratch.at = cutter.take<std::int32_t>(columns);
    const std::int64_t top = task % bands * rows;
    paste_band<Out, C>(args, task / bands, top, top + rows < args.height ? top + rows : args.height, scratch,
                       past_caches);
    if (past_caches) settle_streams();
  }
}

}  // namespace

void paste_masks(const PasteMasksArgs& args) {
  if (args.hard) return args.dtype == DType::f64 ? paste<Flag<double>>(args) : paste<Flag<float>>(args);
  with_floating(args.dtype, [&](auto type) { paste<decltype(type)>(args); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
