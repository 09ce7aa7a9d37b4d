// Channels-last convolution of float16, bfloat16, float32 and float64 (the method is in conv2d_channels_last.hpp).
// Half types are computed in float32; bfloat16 is handed to conv2d_bf16.cpp where the processor multiplies it.
#include "conv2d_channels_last.hpp"

#include "conv2d_bf16.hpp"

namespace cvperf {
namespace CVPERF_ISA {

void run_channels_last(const ConvProblem& p) {
  if (multiplies_bf16(p)) return run_bf16(p);
  with_floating(p.dtype, [&](auto element) {
    using T = decltype(element);
    run_blocks<T, Compute<T>>(p);
  });
}

std::int64_t channels_last_packed_bytes(const ConvProblem& p) {
  if (multiplies_bf16(p)) return bf16_packed_bytes(p);
  return with_floating(p.dtype, [&](auto element) -> std::int64_t {
    using C = Compute<decltype(element)>;
    return p.groups * FilterPanels<C>(p.filters).columns() * p.depth() * static_cast<std::int64_t>(sizeof(C));
  });
}

void pack_channels_last(const ConvProblem& p, void* out) {
  if (multiplies_bf16(p)) return pack_bf16(p, out);
  with_floating(p.dtype, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    const FilterPanels<C> panels(p.filters);
    for_each_panel(p, panels, [&](std::int64_t group, std::int64_t panel) {
      C* to = static_cast<C*>(out) + (group * panels.columns() + panels.first(panel)) * p.depth();
      pack_filter_panel<T>(p, panels, group, panel, to);
    });
  });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
