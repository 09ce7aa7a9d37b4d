// Forward 2-D convolution: states the layer as a ConvProblem and runs it with the kernel of its kind and algorithm.
// The kernels are conv2d_channels_last.cpp, conv2d_winograd.cpp, conv2d_bf16.cpp, conv2d_planar.cpp (which all end in
// gemm_tile.hpp), conv2d_turned.cpp (NCHW by way of the first three), conv2d_depthwise.cpp, conv2d_first_layer.cpp and
// conv2d_few_filters.cpp.
#include "conv2d.hpp"

#include <stdexcept>

#include "buffer.hpp"
#include "conv2d_bf16.hpp"
#include "conv2d_filters.hpp"
#include "conv2d_layer.hpp"
#include "pages.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

bool is_winograd(Algorithm algorithm) { return algorithm == Algorithm::winograd2 || algorithm == Algorithm::winograd4; }

// Whether an NCHW problem runs channels-last.
bool is_turned(const ConvProblem& p) {
  return is_winograd(p.algorithm) || (multiplies_bf16(p) && is_dense_planar(p) && p.filters * p.taps() >= 32);
}

bool is_depthwise(const ConvProblem& p) { return p.channels == 1 && p.filters == 1 && p.groups > 1; }

// Which of the three is fastest, by a count of multiplications, in units of one of the direct sum. Fitted to the 3x3
// layers of ResNet-50, VGG-16, U-Net and a YOLO backbone on Zen 4 (docs/performance.md). Tiles that hang over the edge
// of a small map are work for nothing; each channel and filter of a tile costs its transforms; and a weight costs as
// much as kRead tiles to read, kPack more to transform in the call.
Algorithm fastest(const ConvProblem& p, bool precise, bool packed) {
  if (!winograd_fits(p) || p.channels < 8 || p.filters < 8) return Algorithm::direct;
  constexpr double kRead = 10, kPack = 45, kPackDirect = 10, kTransform = 20, kTurn = 20;
  const double work = double(p.channels) * p.filters, ends = double(p.channels) + p.filters;
  const double weights = packed ? kRead : kRead + kPack;
  const auto cost = [&](std::int64_t tile, double transform) {
    const double points = double(tile + 2) * (tile + 2);
    const double tiles = double(p.batch) * ((p.out_height + tile - 1) / tile) * ((p.out_width + tile - 1) / tile);
    return points * (work * (tiles + weights) + transform * ends * tiles);
  };
  const double pixels = double(p.batch) * p.out_height * p.out_width;
  const double turning = p.channels_last ? 0 : kTurn * ends * pixels;
  // Products of bfloat16 pairs run at 1.5 times the rate (twice the peak); Winograd's are float32 in any dtype.
  const double rate = multiplies_bf16(p) ? 0.65 : 1;
  const double direct = 9 * work * (pixels * rate + kRead + (packed ? 0 : kPackDirect));
  const double two = cost(2, kTransform) + turning, four = cost(4, kTransform) + turning;
  if (!precise && four < direct && four <= two) return Algorithm::winograd4;
  return two < direct ? Algorithm::winograd2 : Algorithm::direct;
}

}  // namespace

Algorithm choose(const ConvProblem& p, Algorithm wanted, bool packed) {
  if (wanted == Algorithm::automatic || wanted == Algorithm::precise)
    return fastest(p, wanted == Algorithm::precise, packed);
  if (is_winograd(wanted) && !winograd_fits(p))
    throw std::invalid_argument(
        "Winograd's algorithm takes float16, bfloat16 or float32, 3x3 kernels of stride 1 and dilation 1; "
        "use algorithm='automatic' or 'direct'");
  return wanted;
}

std::int64_t dense_packed_bytes(const ConvProblem& p) {
  return is_winograd(p.algorithm) ? winograd_packed_bytes(p) : channels_last_packed_bytes(p);
}

std::int64_t packed_bytes(const ConvProblem& p) {
  return !p.channels_last || is_depthwise(p) ? 0 : dense_packed_bytes(p);
}

void pack_filters(const ConvProblem& p, void* out) {
  is_winograd(p.algorithm) ? pack_winograd(p, out) : pack_channels_last(p, out);
}

void run_dense_last(const ConvProblem& p) { is_winograd(p.algorithm) ? run_winograd(p) : run_channels_last(p); }

void run(ConvProblem p) {
  if (run_depthwise(p)) return;
  if (!p.channels_last) return is_turned(p) ? run_turned(p) : run_planar(p);
  const Filters filters(p);
  p.packed = filters.packed();
  run_dense_last(p);
}

void conv2d(const Conv2dArgs& a) {
  Buffer<Tap, kFewTaps> rows(a.shape.kernel[0]), columns(a.shape.kernel[1]);
  ConvProblem p = layer_problem(a.shape, rows.data(), columns.data());
  p.activation = a.activation;
  p.in = a.input;
  p.weight = a.weight;
  p.packed = a.packed;
  p.bias = a.bias;
  p.residual = a.residual;
  p.out = a.output;
  p.algorithm = choose(p, a.algorithm, a.packed != nullptr);
  prefer_huge_pages(p.out, static_cast<std::size_t>(p.batch * p.out_batch * size_of(p.dtype)));
  if (p.algorithm == Algorithm::direct && (run_few_filters(p) || run_first_layer(p))) return;
  run(p);
}

Algorithm conv2d_algorithm(const Conv2dPackArgs& a) {
  Buffer<Tap, kFewTaps> rows(a.shape.kernel[0]), columns(a.shape.kernel[1]);
  return choose(layer_problem(a.shape, rows.data(), columns.data()), a.algorithm, true);
}

std::int64_t conv2d_packed_bytes(const Conv2dPackArgs& a) {
  Buffer<Tap, kFewTaps> rows(a.shape.kernel[0]), columns(a.shape.kernel[1]);
  ConvProblem p = layer_problem(a.shape, rows.data(), columns.data());
  p.algorithm = choose(p, a.algorithm, true);
  return packed_bytes(p);
}

void conv2d_pack(const Conv2dPackArgs& a) {
  Buffer<Tap, kFewTaps> rows(a.shape.kernel[0]), columns(a.shape.kernel[1]);
  ConvProblem p = layer_problem(a.shape, rows.data(), columns.data());
  p.num_threads = a.shape.num_threads;
  p.weight = a.weight;
  p.algorithm = choose(p, a.algorithm, true);
  pack_filters(p, a.packed);
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
