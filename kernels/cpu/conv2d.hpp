// 2-D convolution on dense tensors: NCHW or channels-last (NHWC in memory), forward and both gradients.
#pragma once
#include <cstdint>

#include "activation_kind.hpp"
#include "dtype.hpp"
#include "isa.hpp"

namespace cvperf {

// The layer. y[n, o, i, j] = sum over c, p, q of x[n, c, i*stride - padding + p*dilation, ...] * w[o, c, p, q].
// Pairs are (height, width). Padding is that of the top and left; the far sides follow from the output's size.
struct Conv2dShape {
  std::int64_t batch, in_channels, in_height, in_width;
  std::int64_t out_channels, out_height, out_width;
  std::int64_t kernel[2], stride[2], padding[2], dilation[2];
  std::int64_t groups;
  bool channels_last;         // memory order of both images (input and output side)
  bool weight_channels_last;  // weight in memory as [O, kh, kw, C/groups] instead of [O, C/groups, kh, kw]
  DType dtype;                // f16, bf16, f32 or f64, of every tensor
  int num_threads;
};

// How a layer is computed. `direct` serves every layer; `winograd2` and `winograd4`, F(2x2, 3x3) and F(4x4, 3x3), serve
// layers of 3x3 kernels, stride 1 and dilation 1 that are not float64. `automatic` is the fastest by rule, `precise`
// the same without winograd4.
enum class Algorithm : int { automatic, precise, direct, winograd2, winograd4 };

struct Conv2dArgs {
  Conv2dShape shape;
  Algorithm algorithm;
  const void* input;     // [N, C, H, W]
  const void* weight;    // [O, C/groups, kh, kw]
  const void* packed;    // what conv2d_pack made of it for this shape and algorithm, or null: packed in the call
  const void* bias;      // [O] or null
  const void* residual;  // as output, or null; added before the activation
  void* output;          // [N, O, OH, OW]
  Activation activation;
};

// A weight in the form that the kernel of an algorithm reads. The form depends on the layer's weight, groups, dtype,
// memory order and instruction set, not on the image's size.
struct Conv2dPackArgs {
  Conv2dShape shape;
  Algorithm algorithm;
  const void* weight;
  void* packed;  // [conv2d_packed_bytes]; null if only asked for the size
};

struct Conv2dInputGradArgs {
  Conv2dShape shape;
  Algorithm algorithm;
  const void* grad_output;  // [N, O, OH, OW]
  const void* weight;       // [O, C/groups, kh, kw]
  void* grad_input;         // [N, C, H, W]
};

struct Conv2dWeightGradArgs {
  Conv2dShape shape;
  const void* grad_output;  // [N, O, OH, OW]
  const void* input;        // [N, C, H, W]
  void* grad_weight;        // [O, C/groups, kh, kw], order by weight_channels_last
};

CVPERF_DISPATCHED(void, conv2d, Conv2dArgs)
CVPERF_DISPATCHED(void, conv2d_pack, Conv2dPackArgs)
CVPERF_DISPATCHED(std::int64_t, conv2d_packed_bytes, Conv2dPackArgs)  // 0: nothing is packed for such a layer
CVPERF_DISPATCHED(Algorithm, conv2d_algorithm, Conv2dPackArgs)        // what `automatic` and `precise` choose
CVPERF_DISPATCHED(void, conv2d_input_grad, Conv2dInputGradArgs)
CVPERF_DISPATCHED(void, conv2d_weight_grad, Conv2dWeightGradArgs)

}  // namespace cvperf
