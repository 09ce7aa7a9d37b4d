// The activations that kernels can fuse into the pass that stores their output.
#pragma once

namespace cvperf {

enum class Activation : int { none, relu, relu6, silu, hardswish, sigmoid, leaky_relu };

// torch's default; the slope is not a parameter of the fused op.
constexpr double kLeakyReluSlope = 0.01;

}  // namespace cvperf
