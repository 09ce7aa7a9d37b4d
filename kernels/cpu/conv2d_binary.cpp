// Convolution of signs: a product of two numbers that are +1 or -1 is -1 where their bits differ, so a sum over K of
// them is K - 2 popcount(x xor w).
//
// Idea: a lane is a filter. A word of 32 channels of the image is broadcast and meets the words of 16 filters, which
// lie side by side in a packed weight (a panel), so the counts of a lane are a sum of int32 that needs nothing but its
// scale. The image is read where it lies: bits are so few that a row's windows stay in the first-level cache, and the
// words of a kernel row are one run. Windows that padding cuts leave out the taps that it has, which is what zeros
// would add; they are at the left and right ends of a row and computed one at a time.
//
// Register tile: kRows pixels by panels (binary_tile.hpp: the instruction set's own form). Work is cut into tasks of a
// strip of pixels (a row of the output; of a 1x1 layer, whatever row) by the panels of a tile. Sums are exact, so
// tasks may be cut freely.
//
// Roofline: AVX-512 with VPOPCNTDQ has three operations (xor, count, add) for 512 products and sums, of which Zen 4
// makes 2 in 3 cycles at best: 340 products a cycle, against 64 of its INT8 and 16 of its float32.
// Source: Rastegari et al., "XNOR-Net", ECCV 2016.
#include "conv2d_binary.hpp"

#include "activation.hpp"
#include "binary_tile.hpp"
#include "buffer.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kStripPixels = 64;  // of a 1x1 layer
constexpr double kWorkOfThread = 4e6;      // products that pay for a thread

std::int64_t ceil_div(std::int64_t x, std::int64_t y) { return (x + y - 1) / y; }

// The taps of a kernel row or column that lie on the image.
struct Taps {
  std::int64_t first, count;
};

Taps taps_of(std::int64_t start, std::int64_t size, std::int64_t kernel, std::int64_t dilation) {
  const std::int64_t first = start >= 0 ? 0 : ceil_div(-start, dilation);
  const std::int64_t room = size - 1 - start;
  const std::int64_t end = room < 0 ? 0 : room / dilation + 1;
  const std::int64_t last = end < kernel ? end : kernel;
  return {first, last > first ? last - first : 0};
}

// The columns of the output whose windows lie on the image from left to right.
Taps whole_windows(const Conv2dShape& s) {
  const std::int64_t reach = (s.kernel[1] - 1) * s.dilation[1] + 1, room = s.in_width + s.padding[1] - reach;
  const std::int64_t first = ceil_div(s.padding[1], s.stride[1]);
  const std::int64_t end = room < 0 ? 0 : room / s.stride[1] + 1;
  const std::int64_t last = end < s.out_width ? end : s.out_width;
  return {first, last > first ? last - first : 0};
}

// Of a call: what all tasks share.
struct Layer {
  const Conv2dBinaryArgs& args;
  const float *scale, *bias;  // [panels * kBinaryPanel]
  bool pointwise;
  std::int64_t words, panels, blocks;  // blocks: of panels that a tile holds
  std::int64_t strips, strip_pixels;
  std::int64_t whole_from, whole_to;  // columns of the output whose windows are not cut

  std::int64_t tap_words() const { return words * kBinaryPanel; }  // of a panel
  std::int64_t panel_words() const { return args.shape.kernel[0] * args.shape.kernel[1] * tap_words(); }
};

template <class T>
CVPERF_INLINE void finish_vector(const Layer& layer, const std::int32_t* counts, float numbers, std::int64_t filter,
                                 T* out) {
  constexpr int lanes = kLanes<float>;
  Vec<std::int32_t> differing;
  __builtin_memcpy(&differing, counts, sizeof differing);
  const Vec<float> sums = numbers - 2.0f * __builtin_convertvector(differing, Vec<float>);
  const Vec<float> value =
      activate<float>(layer.args.activation, sums * load(layer.scale + filter) + load(layer.bias + filter));
  const std::int64_t left = layer.args.shape.out_channels - filter;
  if (left >= lanes)
    store(out + filter, value);
  else if (left > 0)
    store_partial(out + filter, value, static_cast<int>(left));
}

// A tile of pixels that see the same taps, from pixel `pixel` of the output on.
template <class T>
void run_tile(const Layer& layer, const BinaryTile& tile, int rows, int panels, float numbers, std::int64_t pixel,
              std::int64_t first_filter) {
  alignas(64) std::int32_t counts[kRows * kPanels * kBinaryPanel];
  count_differing(tile, rows, panels, counts);
  const std::int64_t filters = layer.args.shape.out_channels;
  T* out = static_cast<T*>(layer.args.output) + pixel * filters;
  const int width = panels * static_cast<int>(kBinaryPanel);
  for (int r = 0; r < rows; ++r, out += filters)
    for (int v = 0; v < width; v += kLanes<float>)
      finish_vector(layer, counts + r * width + v, numbers, first_filter + v, out);
}

template <class T>
void run_pointwise(const Layer& layer, std::int64_t strip, std::int64_t first_panel, int panels) {
  const Conv2dShape& s = layer.args.shape;
  const std::int64_t pixels = s.batch * s.out_height * s.out_width, from = strip * layer.strip_pixels;
  const std::int64_t to = from + layer.strip_pixels < pixels ? from + layer.strip_pixels : pixels;
  BinaryTile tile{};
  tile.pixel_step = layer.words;
  tile.kernel_rows = tile.runs = 1;
  tile.run_words = layer.words;
  tile.weight = layer.args.packed + first_panel * layer.panel_words();
  tile.panel_step = layer.panel_words();
  for (std::int64_t pixel = from; pixel < to; pixel += kRows) {
    const int rows = static_cast<int>(to - pixel < kRows ? to - pixel : kRows);
    tile.image = layer.args.input + pixel * layer.words;
    run_tile<T>(layer, tile, rows, panels, static_cast<float>(s.in_channels), pixel, first_panel * kBinaryPanel);
  }
}

// A row of the output.
template <class T>
void run_row(const Layer& layer, std::int64_t row, std::int64_t first_panel, int panels) {
  const Conv2dShape& s = layer.args.shape;
  const std::int64_t n = row / s.out_height, y = row % s.out_height, words = layer.words;
  const std::int64_t top = y * s.stride[0] - s.padding[0];
  const Taps down = taps_of(top, s.in_height, s.kernel[0], s.dilation[0]);
  const std::int64_t first_row = n * s.in_height + top + down.first * s.dilation[0];
  BinaryTile tile{};
  tile.pixel_step = s.stride[1] * words;
  tile.kernel_rows = down.count;
  tile.image_row_step = s.dilation[0] * s.in_width * words;
  tile.weight_row_step = s.kernel[1] * layer.tap_words();
  tile.run_step = s.dilation[1] * words;
  tile.panel_step = layer.panel_words();
  for (std::int64_t x = 0; x < s.out_width;) {
    const std::int64_t left = x * s.stride[1] - s.padding[1];
    // All pixels that lose no tap to the padding see the same ones.
    const bool whole = x >= layer.whole_from && x < layer.whole_to;
    const std::int64_t end = whole ? layer.whole_to : x + 1;
    const int rows = static_cast<int>(end - x < kRows ? end - x : kRows);
    const Taps across = whole ? Taps{0, s.kernel[1]} : taps_of(left, s.in_width, s.kernel[1], s.dilation[1]);
    const bool one_run = s.dilation[1] == 1;
    tile.runs = across.count == 0 ? 0 : one_run ? 1 : across.count;
    tile.run_words = one_run ? across.count * words : words;
    tile.image = layer.args.input + (first_row * s.in_width + left + across.first * s.dilation[1]) * words;
    tile.weight = layer.args.packed + first_panel * layer.panel_words() +
                  (down.first * s.kernel[1] + across.first) * layer.tap_words();
    const float numbers = static_cast<float>(down.count * across.count * s.in_channels);
    run_tile<T>(layer, tile, rows, panels, numbers, row * s.out_width + x, first_panel * kBinaryPanel);
    x += rows;
  }
}

template <class T>
void run_all(const Layer& layer, int threads) {
  const std::int64_t tasks = layer.strips * layer.blocks;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (std::int64_t task = 0; task < tasks; ++task) {
    const std::int64_t strip = task / layer.blocks, block = task % layer.blocks;
    // Blocks of even width, not full ones and a remnant.
    const std::int64_t from = layer.panels * block / layer.blocks, to = layer.panels * (block + 1) / layer.blocks;
    const int panels = static_cast<int>(to - from);
    if (layer.pointwise)
      run_pointwise<T>(layer, strip, from, panels);
    else
      run_row<T>(layer, strip, from, panels);
  }
}

bool is_pointwise(const Conv2dShape& s) {
  bool pointwise = true;
  for (int i = 0; i < 2; ++i) pointwise &= s.kernel[i] == 1 && s.stride[i] == 1 && s.padding[i] == 0;
  return pointwise;
}

}  // namespace

void conv2d_binary(const Conv2dBinaryArgs& args) {
  const Conv2dShape& s = args.shape;
  const std::int64_t pixels = s.batch * s.out_height * s.out_width;
  if (pixels == 0 || s.out_channels == 0) return;
  const std::int64_t panels = ceil_div(s.out_channels, kBinaryPanel), width = panels * kBinaryPanel;
  Buffer<float, 1024> factors(static_cast<std::size_t>(2 * width));
  float *const scale = factors.data(), *const bias = scale + width;
  for (std::int64_t o = 0; o < width; ++o) {
    scale[o] = o >= s.out_channels ? 0.0f : args.scale ? args.scale[o] : 1.0f;
    bias[o] = o < s.out_channels && args.bias ? args.bias[o] : 0.0f;
  }
  const bool pointwise = is_pointwise(s);
  const std::int64_t strip_pixels = pointwise ? kStripPixels : s.out_width;
  const Taps whole = whole_windows(s);
  const Layer layer{args,
                    scale,
                    bias,
                    pointwise,
                    binary_words(s.in_channels),
                    panels,
                    ceil_div(panels, kPanels),
                    ceil_div(pixels, strip_pixels),
                    strip_pixels,
                    whole.first,
                    whole.first + whole.count};
  const double work = double(pixels) * double(width) * double(layer.panel_words() / kBinaryPanel * kBinaryWord);
  const std::int64_t tasks = layer.strips * layer.blocks;
  const int threads = work < 2 * kWorkOfThread ? 1 : static_cast<int>(tasks < s.num_threads ? tasks : s.num_threads);
  with_float(s.dtype, [&](auto type) { run_all<decltype(type)>(layer, threads); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
