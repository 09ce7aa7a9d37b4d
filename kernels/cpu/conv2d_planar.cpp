// NCHW convolution as an implicit matrix product: rows are filters, columns are pixels.
//
// Nothing is transposed: vectors run along output pixels, which NCHW stores side by side, and the weight of a
// filter, which is consecutive in memory as [channel][tap], is broadcast from where it lies. What is packed is
// one panel of pixels at a time (conv2d_panel.hpp), a slice of K that fits L1, right before all filters go over
// it; partial sums of the panel wait in a small buffer. One packed number serves every filter, so packing costs
// about 3 / filters of the work. Every output is summed in one fixed order of K.
#include "buffer.hpp"
#include "conv2d_epilogue.hpp"
#include "conv2d_pack.hpp"
#include "conv2d_panel.hpp"
#include "conv2d_problem.hpp"
#include "gemm_tile.hpp"
#include "thread_index.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kDepthBlock = 384;
constexpr std::int64_t kPackedTogether = 20 * 1024;  // bytes of panels packed together, within L1

template <class T>
struct Planar {
  using C = Compute<T>;

  const ConvProblem& p;
  const C* const* filters;      // [groups * filters] rows of K
  const C* bias;                // [groups * filters] or null
  std::int64_t depth_channels;  // channels in a slice of K
  const T* end;                 // of the input

  void run_panel(PixelPanel<T>& panel, C* packed, C* sums, std::int64_t n, std::int64_t group, std::int64_t pixel,
                 int columns, std::int64_t first_filter, std::int64_t last_filter) const {
    constexpr int lanes = kLanes<C>;
    panel.place(pixel, columns);
    const int vectors = panel.vectors();
    const std::int64_t count = last_filter - first_filter, filter = group * p.filters + first_filter;
    const std::int64_t at = n * p.out_batch + filter * p.out_channel;
    const T* image = static_cast<const T*>(p.in) + n * p.in_batch + group * p.channels * p.in_channel;
    const bool dense = p.out_column == 1 && p.out_row == p.out_width;
    const bool direct = sizeof(T) == sizeof(C) && dense && columns == vectors * lanes && !p.residual &&
                        p.activation == Activation::none;
    const std::int64_t steps = p.depth() ? (p.channels + depth_channels - 1) / depth_channels : 1;
    TileArgs<C> t{};
    t.a_pitch = 0;
    t.column_bias = nullptr;
    t.segments = 1;
    t.b = packed;
    for (std::int64_t step = 0; step < steps; ++step) {
      const bool last = step + 1 == steps;
      const std::int64_t channel = p.channels * step / steps, next = p.channels * (step + 1) / steps;
      panel.pack(image + channel * p.in_channel, next - channel, end, packed);
      t.a_offset = channel * p.taps();
      t.length = (next - channel) * p.taps();
      t.a = filters + filter;
      t.init = step ? sums : nullptr;
      t.row_bias = last && direct && bias ? bias + filter : nullptr;
      t.c = last && direct ? static_cast<C*>(p.out) + at + pixel : sums;
      t.c_pitch = last && direct ? p.out_channel : kTileColumns<C>;
      multiply(count, vectors, t);
    }
    if (direct) return;
    for (std::int64_t r = 0; r < count; ++r)
      finish(at + r * p.out_channel, pixel, columns, sums + r * kTileColumns<C>, bias ? bias + filter + r : nullptr,
             dense);
  }

  // Several whole panels side by side, where all of K fits L1 with them: rows of the output are then written
  // in longer runs. Filters go in groups of two tiles, so that a group's weights are read once from L1.
  void run_panels(PixelPanel<T>& panel, C* packed, std::int64_t n, std::int64_t group, std::int64_t pixel,
                  std::int64_t panels, std::int64_t first_filter, std::int64_t last_filter) const {
    const T* image = static_cast<const T*>(p.in) + n * p.in_batch + group * p.channels * p.in_channel;
    const std::int64_t panel_size = p.depth() * kTileColumns<C>;
    for (std::int64_t i = 0; i < panels; ++i) {
      panel.place(pixel + i * kTileColumns<C>, kTileColumns<C>);
      panel.pack(image, p.channels, end, packed + i * panel_size);
    }
    TileArgs<C> t{};
    t.segments = 1;
    t.length = p.depth();
    t.c_pitch = p.out_channel;
    const std::int64_t count = last_filter - first_filter, groups = (count + 2 * kTileRows - 1) / (2 * kTileRows);
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::int64_t begin = count * g / groups, rows = count * (g + 1) / groups - begin;
      const std::int64_t filter = group * p.filters + first_filter + begin;
      t.a = filters + filter;
      t.row_bias = bias ? bias + filter : nullptr;
      for (std::int64_t i = 0; i < panels; ++i) {
        t.b = packed + i * panel_size;
        t.c = static_cast<C*>(p.out) + n * p.out_batch + filter * p.out_channel + pixel + i * kTileColumns<C>;
        multiply(rows, kTileVectors, t);
      }
    }
  }

  void finish(std::int64_t plane, std::int64_t pixel, int columns, const C* sums, const C* row_bias, bool dense) const {
    T* out = static_cast<T*>(p.out) + plane;
    if (dense) {
      finish_run(out + pixel, sums, columns, row_bias, 0,
                 p.residual ? static_cast<const T*>(p.residual) + plane + pixel : nullptr, p.activation);
      return;
    }
    // The input gradient of a strided layer, which has neither bias nor activation.
    std::int64_t y = pixel / p.out_width, x = pixel % p.out_width;
    for (int i = 0; i < columns; ++i) {
      out[y * p.out_row + x * p.out_column] = from_compute<T>(sums[i]);
      if (++x == p.out_width) x = 0, ++y;
    }
  }
};

template <class T>
void run(ConvProblem p) {
  using C = Compute<T>;
  const std::int64_t pixels = p.out_height * p.out_width, all_filters = p.groups * p.filters;
  if (pixels == 0 || p.batch == 0 || p.filters == 0) return;
  Planar<T> job{p, nullptr, nullptr, 0, nullptr};
  job.end = static_cast<const T*>(p.in) + p.batch * p.in_batch;
  if (p.is_pointwise() && p.out_column == 1 && p.out_row == p.out_width) {
    // Pixelwise: the image is one long row.
    p.in_width = p.out_width = p.in_row = p.out_row = pixels;
    p.in_height = p.out_height = 1;
  }
  job.depth_channels = p.taps() ? kDepthBlock / p.taps() : 1;
  if (job.depth_channels < 1) job.depth_channels = 1;
  if (job.depth_channels > p.channels) job.depth_channels = p.channels ? p.channels : 1;

  const std::int64_t threads = p.num_threads < 1 ? 1 : p.num_threads;
  const std::int64_t panels = (pixels + kTileColumns<C> - 1) / kTileColumns<C>;
  std::int64_t chunk = 8;  // panels in a task
  while (chunk > 1 && p.batch * p.groups * ((panels + chunk - 1) / chunk) < 8 * threads) chunk /= 2;
  const std::int64_t chunks = (panels + chunk - 1) / chunk;
  std::int64_t splits = 1;  // of the filters
  if (threads > 1 && p.batch * p.groups * chunks < 4 * threads) {
    splits = 2 * threads;
    if (splits > p.filters / (2 * kTileRows)) splits = p.filters / (2 * kTileRows);
    if (splits < 1) splits = 1;
  }

  const bool in_place = sizeof(T) == sizeof(C) && filter_is_dense(p);
  Buffer<C> rows(in_place ? 0 : all_filters * p.depth());
  Buffer<const C*> filters(all_filters);
  Buffer<C> bias(all_filters);
  // Panels that are packed together where K is short and tiles go straight to the output.
  std::int64_t together = 0;
  if (sizeof(T) == sizeof(C) && p.out_column == 1 && p.out_row == p.out_width && !p.residual &&
      p.activation == Activation::none && p.depth() > 0 && job.depth_channels >= p.channels) {
    together = kPackedTogether / static_cast<std::int64_t>(sizeof(C)) / kTileColumns<C> / p.depth();
    if (together > chunk) together = chunk;
  }
  const std::int64_t packed_size =
      (job.depth_channels * p.taps() + 1) * kTileColumns<C> * (together > 1 ? together : 1);
  Buffer<C> packed(threads * packed_size);
  Buffer<C> sums(threads * p.filters * kTileColumns<C>);
  Buffer<Copy<C>> copies(threads * (p.taps() * kTileColumns<C> + 1));
  Buffer<std::int32_t> first(threads * (p.taps() + 1));
  for (std::int64_t f = 0; f < all_filters; ++f) {
    filters[f] = in_place ? reinterpret_cast<const C*>(static_cast<const T*>(p.weight) +
                                                       f / p.filters * p.weight_group + f % p.filters * p.weight_filter)
                          : rows.data() + f * p.depth();
    if (p.bias) bias[f] = to_compute(static_cast<const T*>(p.bias)[f]);
  }
  job.filters = filters.data();
  job.bias = p.bias ? bias.data() : nullptr;

  const std::int64_t tasks = p.batch * p.groups * chunks * splits;
#pragma omp parallel num_threads(threads) if (threads > 1 && tasks > 1)
  {
    const int thread = thread_index();
    if (!in_place) {
#pragma omp for schedule(static)
      for (std::int64_t f = 0; f < all_filters; ++f)
        pack_filter_row<T>(p, f / p.filters, f % p.filters, rows.data() + f * p.depth());
    }
    PixelPanel<T> panel(p, copies.data() + thread * (p.taps() * kTileColumns<C> + 1),
                        first.data() + thread * (p.taps() + 1));
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t task = 0; task < tasks; ++task) {
      const std::int64_t split = task % splits, chunk_index = task / splits % chunks;
      const std::int64_t image = task / splits / chunks, n = image / p.groups, group = image % p.groups;
      std::int64_t i = chunk_index * panels / chunks;
      const std::int64_t last = (chunk_index + 1) * panels / chunks, whole = pixels / kTileColumns<C>;
      for (; together > 1 && i < last && i < whole;) {
        std::int64_t some = last < whole ? last - i : whole - i;
        if (some > together) some = together;
        job.run_panels(panel, packed.data() + thread * packed_size, n, group, i * kTileColumns<C>, some,
                       p.filters * split / splits, p.filters * (split + 1) / splits);
        i += some;
      }
      for (; i < last; ++i) {
        const std::int64_t pixel = i * kTileColumns<C>, left = pixels - pixel;
        job.run_panel(panel, packed.data() + thread * packed_size, sums.data() + thread * p.filters * kTileColumns<C>,
                      n, group, pixel, static_cast<int>(left < kTileColumns<C> ? left : kTileColumns<C>),
                      p.filters * split / splits, p.filters * (split + 1) / splits);
      }
    }
  }
}

}  // namespace

void run_planar(const ConvProblem& p) {
  return with_floating(p.dtype, [&](auto element) { return run<decltype(element)>(p); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
