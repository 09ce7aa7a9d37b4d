// Forward 2-D convolution: states the layer as a ConvProblem and hands it to the kernel of its kind.
// The kernels are conv2d_channels_last.cpp, conv2d_planar.cpp (both end in gemm_tile.hpp) and, for
// layers of few channels a group, conv2d_depthwise.cpp and conv2d_first_layer.cpp.
#include "conv2d.hpp"

#include "buffer.hpp"
#include "conv2d_layer.hpp"

namespace cvperf {
namespace CVPERF_ISA {

void conv2d(const Conv2dArgs& a) {
  const Conv2dShape& s = a.shape;
  Buffer<Tap> rows(s.kernel[0]), columns(s.kernel[1]);
  ConvProblem p = layer_problem(s, rows.data(), columns.data());
  p.activation = a.activation;
  p.in = a.input;
  p.weight = a.weight;
  p.bias = a.bias;
  p.residual = a.residual;
  p.out = a.output;
  if (run_depthwise(p)) return;
  if (run_first_layer(p)) return;
  if (s.channels_last) {
    run_channels_last(p);
  } else {
    run_planar(p);
  }
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
