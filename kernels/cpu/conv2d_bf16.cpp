// Channels-last convolution of bfloat16 by vdpbf16ps: two products a lane and instruction, twice the rate of float32.
//
// The method and the blocking are those of conv2d_channels_last.hpp; an element of A is a pair of consecutive channels,
// read from the image as it lies, and the packed filters hold the same pairs, [K / 2][columns][2]. Where a segment of K
// has an odd number of channels, its windows are copied with a zero at the end. Sums are float32; the instruction
// rounds them to nearest and flushes subnormals, whatever the processor's modes.
#include "conv2d_bf16.hpp"

#include "conv2d_channels_last.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

// One filter in the order of K: [segment][length] pairs, zeros behind an odd end.
void gather_filter(const ConvProblem& p, const Segments& segments, const bfloat16* from, bfloat16* to) {
  const std::int64_t taps = segments.whole_rows ? p.num_tap_columns : 1;  // in a segment
  for (std::int64_t s = 0; s < segments.count; ++s, to += 2 * segments.length) {
    to[2 * segments.length - 1] = bfloat16{};
    for (std::int64_t t = 0; t < taps; ++t) {
      const std::int64_t tap = s * taps + t;
      const bfloat16* channel = from + p.tap_weight(tap);
      bfloat16* out = to + t * p.channels;
      if (p.weight_channel == 1) {
        __builtin_memcpy(out, channel, p.channels * sizeof(bfloat16));
      } else {
        for (std::int64_t c = 0; c < p.channels; ++c) out[c] = channel[c * p.weight_channel];
      }
    }
  }
}

// The panel [K / 2][columns] of pairs from its filters' rows: squares of 32-bit elements, transposed as float32 (whose
// bits nothing touches).
void transpose_panel(const float* const* rows, std::int64_t depth, int vectors, float* out) {
  constexpr int lanes = kLanes<float>;
  const std::int64_t pitch = vectors * lanes;
  for (int v = 0; v < vectors; ++v)
    for (std::int64_t k = 0; k < depth; k += lanes) {
      const int length = static_cast<int>(depth - k < lanes ? depth - k : lanes);
      Vec<float> square[lanes];
      for (int r = 0; r < lanes; ++r) {
        const float* row = rows[v * lanes + r] + k;
        square[r] = length == lanes ? load(row) : load_partial(row, length);
      }
      transpose_square<float>(square);
      for (int r = 0; r < length; ++r) store(out + (k + r) * pitch + v * lanes, square[r]);
    }
}

}  // namespace

void run_bf16(const ConvProblem& p) { run_blocks<bfloat16, Bf16Pair>(p); }

std::int64_t bf16_packed_bytes(const ConvProblem& p) {
  return p.groups * FilterPanels<float>(p.filters).columns() * Segments(p, 2).depth() * 4;
}

void pack_bf16(const ConvProblem& p, void* out) {
  const FilterPanels<float> panels(p.filters);
  const Segments segments(p, 2);
  const std::int64_t depth = segments.depth(), all = p.groups * p.filters;
  Buffer<Bf16Pair> rows((all + 1) * depth);
  Bf16Pair* const zeros = rows.data() + all * depth;
  __builtin_memset(static_cast<void*>(zeros), 0, depth * sizeof(Bf16Pair));
  for_each_panel(p, panels, [&](std::int64_t group, std::int64_t panel) {
    const std::int64_t first = panels.first(panel);
    const float* pointers[kTileColumns<float>];
    for (int i = 0; i < panels.vectors(panel) * kLanes<float>; ++i) {
      const std::int64_t filter = group * p.filters + first + i;
      const bool real = first + i < p.filters;
      Bf16Pair* row = real ? rows.data() + filter * depth : zeros;
      if (real)
        gather_filter(p, segments,
                      static_cast<const bfloat16*>(p.weight) + group * p.weight_group + (first + i) * p.weight_filter,
                      reinterpret_cast<bfloat16*>(row));
      pointers[i] = reinterpret_cast<const float*>(row);
    }
    transpose_panel(pointers, depth, panels.vectors(panel),
                    static_cast<float*>(out) + (group * panels.columns() + first) * depth);
  });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
