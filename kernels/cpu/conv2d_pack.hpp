// Packing of filters for the register tile, with conversion to the compute type.
#pragma once
#include "conv2d_problem.hpp"
#include "gemm_tile.hpp"
#include "shuffle.hpp"

namespace cvperf {
namespace CVPERF_ISA {

// True if a filter's taps and channels are consecutive in memory as [channel][tap row][tap column].
CVPERF_INLINE bool filter_is_dense(const ConvProblem& p) {
  if (p.weight_channel != p.taps() && p.channels > 1) return false;
  for (std::int64_t r = 0; r < p.num_tap_rows; ++r)
    for (std::int64_t c = 0; c < p.num_tap_columns; ++c)
      if (p.tap_rows[r].weight + p.tap_columns[c].weight != r * p.num_tap_columns + c) return false;
  return true;
}

// The filters of a group in panels of 1 to kTileVectors vectors of columns, as even as can be: 64 filters in vectors
// of 16 are 2 + 2 and not 3 + 1. The last vector is padded with zeros.
template <class C>
struct FilterPanels {
  explicit FilterPanels(std::int64_t filters)
      : all((filters + kLanes<C> - 1) / kLanes<C>), count((all + kTileVectors - 1) / kTileVectors) {}
  std::int64_t all, count;  // vectors; panels

  std::int64_t columns() const { return all * kLanes<C>; }
  std::int64_t first(std::int64_t panel) const { return all * panel / count * kLanes<C>; }  // its first filter
  int vectors(std::int64_t panel) const { return static_cast<int>(all * (panel + 1) / count - all * panel / count); }
};

// Packs one panel as [tap][channel][columns]. This costs one pass over the weight a call, so the common layouts,
// where a filter's numbers are consecutive, go through square transposes.
template <class T>
void pack_filter_panel(const ConvProblem& p, const FilterPanels<Compute<T>>& panels, std::int64_t group,
                       std::int64_t panel, Compute<T>* out) {
  using C = Compute<T>;
  constexpr int lanes = kLanes<C>;
  const std::int64_t first = panels.first(panel), left = p.filters - first;
  const int pitch = panels.vectors(panel) * lanes;
  const int columns = static_cast<int>(left < pitch ? left : pitch);
  const T* filters = static_cast<const T*>(p.weight) + group * p.weight_group + first * p.weight_filter;
  const std::int64_t taps = p.taps(), channels = p.channels;
  const bool dense = filter_is_dense(p);
  for (int column = 0; column < pitch; column += lanes) {
    const int filled = columns - column < lanes ? columns - column : lanes;
    const T* base = filters + column * p.weight_filter;
    if (dense || (p.weight_channel == 1 && taps > 0)) {
      // Runs of consecutive numbers: the whole filter, or the channels of one tap.
      const std::int64_t run = dense ? taps * channels : channels, runs = dense ? 1 : taps;
      for (std::int64_t n = 0; n < runs; ++n) {
        const T* from = dense ? base : base + p.tap_weight(n);
        std::int64_t tap = dense ? 0 : n, channel = 0;
        for (std::int64_t i = 0; i < run; i += lanes) {
          Vec<C> square[lanes];
          const int length = static_cast<int>(run - i < lanes ? run - i : lanes);
          for (int r = 0; r < lanes; ++r) {
            const T* source = from + r * p.weight_filter + i;
            square[r] = r >= filled ? Vec<C>{} : length == lanes ? load(source) : load_partial(source, length);
          }
          transpose_square<C>(square);
          for (int r = 0; r < length; ++r) {
            store(out + (tap * channels + channel) * pitch + column, square[r]);
            if (dense && taps > 1) {
              if (++tap == taps) tap = 0, ++channel;
            } else {
              ++channel;
            }
          }
        }
      }
    } else {
      for (std::int64_t tap = 0; tap < taps; ++tap) {
        const T* from = base + p.tap_weight(tap);
        for (std::int64_t c = 0; c < channels; ++c, from += p.weight_channel) {
          C* to = out + (tap * channels + c) * pitch + column;
          if (p.weight_filter == 1 && filled == lanes) {
            store(to, load(from));
          } else {
            for (int r = 0; r < lanes; ++r) to[r] = r < filled ? to_compute(from[r * p.weight_filter]) : C(0);
          }
        }
      }
    }
  }
}

// Copies filter rows as [channel][tap], for the planar kernel, which broadcasts them.
template <class T>
void pack_filter_row(const ConvProblem& p, std::int64_t group, std::int64_t filter, Compute<T>* out) {
  const T* from = static_cast<const T*>(p.weight) + group * p.weight_group + filter * p.weight_filter;
  for (std::int64_t r = 0; r < p.num_tap_rows; ++r)
    for (std::int64_t c = 0; c < p.num_tap_columns; ++c) {
      const T* tap = from + p.tap_rows[r].weight + p.tap_columns[c].weight;
      Compute<T>* to = out + r * p.num_tap_columns + c;
      for (std::int64_t i = 0; i < p.channels; ++i) to[i * p.taps()] = to_compute(tap[i * p.weight_channel]);
    }
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
